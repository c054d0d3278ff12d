// Package collect adds up what clients report: it reads the events of a beacon, keeps those that are asked for, and makes
// windows of them. A window has a series for each combination of its dimensions' values, and a series has a count and a cell
// for each metric. Windows of one kind can be merged, in any order; so what one event makes, what a PoP has, and what the core knows of
// a day are all the same thing.
//
// There is no time, disk or network here: the node brings them.
package collect
