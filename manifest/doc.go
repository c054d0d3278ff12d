// Package manifest reads an app's directory into a [wedge.Version]: its wedge.toml, or
// the fastly.toml it was written for, and the files and variables these name.
//
// Both formats are read strictly and by the same readers. What is wrong is reported with
// file, line, key and a hint, several faults at once; what is merely doubtful becomes a
// warning. The package also runs the app's build command, and says whether it must.
//
// Every key of wedge.toml is in testdata/sample/wedge.toml, which a test parses.
package manifest
