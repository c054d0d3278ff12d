//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

func notifyUpgrade(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }
