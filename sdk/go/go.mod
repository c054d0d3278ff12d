module github.com/wedge-cloud/wedge/sdk/go

go 1.26
