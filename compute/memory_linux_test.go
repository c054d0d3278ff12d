//go:build !plainmem

package compute

const plain = false
