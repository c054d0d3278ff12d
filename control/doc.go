// Package control is what a fleet should be: its tenants and their services, the versions of these, and which is released where. It decides
// and never touches a request; what was decided is a log that every PoP follows (state.go), and what a version is made of are
// chunks that are named by what they are (artifact.go).
package control
