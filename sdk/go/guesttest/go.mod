module github.com/wedge-cloud/wedge/sdk/go/guesttest

go 1.26

require (
	github.com/tetratelabs/wazero v1.12.0
	github.com/wedge-cloud/wedge/sdk/go v0.0.0-00010101000000-000000000000
)

require golang.org/x/sys v0.44.0 // indirect

replace github.com/wedge-cloud/wedge/sdk/go => ../
