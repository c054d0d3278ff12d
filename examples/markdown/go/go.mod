module github.com/wedge-cloud/wedge/examples/markdown/go

go 1.26.0

require github.com/wedge-cloud/wedge/sdk/go v0.0.0

require golang.org/x/net v0.62.0

require github.com/yuin/goldmark v1.8.7

replace github.com/wedge-cloud/wedge/sdk/go => ../../../sdk/go
