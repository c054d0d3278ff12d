module github.com/wedge-cloud/wedge/examples/rum

go 1.26

require github.com/wedge-cloud/wedge/sdk/go v0.0.0

replace github.com/wedge-cloud/wedge/sdk/go => ../../sdk/go
