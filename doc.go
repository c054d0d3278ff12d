// Package wedge holds the words of Wedge: the values, names, limits and kinds of
// error that every other package speaks. It does no I/O and contains no engine.
//
// A [Version] is what an author deploys: one immutable, numbered snapshot of a
// service. A [Backend] is a named way to reach an origin. A [Client] is what the
// front knows of whoever sent a request. An [Error] says what failed, on which
// thing and what to do now, and its [Kind] decides what each surface shows of it.
//
// The full vocabulary is docs/glossary.md.
package wedge
