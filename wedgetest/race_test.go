//go:build race

package wedgetest

const raceDetector = true
