module github.com/wedge-cloud/wedge

go 1.26
