// Package node is one running Wedge process: it builds the parts, fits them together, runs
// and drains them. It is the only package that sees all the others; [Run] shows how they meet.
package node
