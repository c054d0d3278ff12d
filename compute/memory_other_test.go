//go:build !linux || plainmem

package compute

const plain = true
