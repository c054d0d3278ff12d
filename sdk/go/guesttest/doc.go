// Package guesttest runs guests built with the SDK on wazero, against a small stand-in for
// the host. It is a module of its own so that the SDK depends on nothing.
package guesttest
