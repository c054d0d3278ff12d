// Package handover lets a process be followed by a successor, a new process from the binary that is on disk by then, without
// a client noticing: the listening sockets stay open all the while, and what only one process can have open, the data
// directory, changes hands between two requests.
//
//	predecessor                                 successor
//	serves; asked to: starts it           ---->  reads its configuration, compiles
//	stops accepting, finishes requests    <----  "prepared"
//	closes the data directory             ---->  "yours": opens it, accepts what has come meanwhile
//	ends what is still under way, exits   <----  "serving"
//
// New connections wait in the kernel between "yours" and "serving", and for as long as requests take to finish before. A successor that fails at any point is told apart by
// its end of the pipes: then the predecessor goes on, or begins again.
package handover

import (
	"errors"
	"time"
)

// ErrSucceeded is the cause of a context that ends because a successor is prepared.
var ErrSucceeded = errors.New("a successor is prepared")

const (
	prepareTimeout = time.Minute      // until a successor is prepared: it may have to compile
	serveTimeout   = 30 * time.Second // until it serves, with all it needs: nobody does meanwhile
)

// What is said.
const (
	prepared = "prepared\n"
	yours    = "yours\n"
	serving  = "serving\n"
)

// variable tells a successor which sockets it gets.
const variable = "WEDGE_HANDOVER"

// socket is a listening socket by what it is for and the address that the configuration has.
type socket struct{ Name, Addr string }
