module github.com/wedge-cloud/wedge/examples/personalise/origin

go 1.26
