//go:build !race

package wedgetest

const raceDetector = false
