//go:build !linux

package compute

func threadCount() int { return 0 }

func openFiles() int { return 0 }

func mappings() (all, images int) { return 0, 0 }
