package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// raiseFiles makes room for n open files as far as it may, and returns how many may be open.
func raiseFiles(n uint64) uint64 {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return 0
	}
	for _, top := range []uint64{max(n, lim.Max), lim.Max} { // beyond the hard limit only with privileges
		if lim.Cur < n && unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: top, Max: top}) == nil {
			return top
		}
	}
	return lim.Cur
}

// sleepUntil sleeps to the microsecond, more or less.
func sleepUntil(at time.Time) {
	for d := time.Until(at); d > 0; d = time.Until(at) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil)
	}
}

// cpuTime returns the processor time that a process has used, in user and kernel mode.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; after it come the state and numbers.
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of process %d is short", pid)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil // USER_HZ is 100 on every Linux that Go runs on
}

// resident returns what a process has in memory, in bytes: what is its own, without the pages of
// files and images that it maps, which the kernel counts once for each mapping though they are there
// once; and the most that it ever had with those.
func resident(pid int) (own, most uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for name, v := range map[string]*uint64{"RssAnon:": &own, "VmHWM:": &most} {
		_, rest, ok := strings.Cut(string(b), name)
		if _, err := fmt.Sscan(rest, v); !ok || err != nil {
			return 0, 0, fmt.Errorf("status of process %d has no %s", pid, name)
		}
		*v <<= 10
	}
	return own, most, nil
}
