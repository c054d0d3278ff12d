// Cpu is a guest that only computes: what its first argument names, for some tens of milliseconds.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"sort"
)

func main() {
	work := map[string]func() uint64{"fib": recursion, "sort": sorting, "json": documents, "sha256": hashing, "bytes": bytes}
	do := work[os.Args[1]]
	if do == nil {
		os.Exit(2)
	}
	fmt.Println(do())
}

func recursion() uint64 { return fib(31) }

func fib(n uint64) uint64 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

func sorting() uint64 {
	v := make([]uint64, 100_000)
	x := uint64(88172645463325252)
	for i := range v {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		v[i] = x
	}
	sort.Slice(v, func(i, j int) bool { return v[i] < v[j] })
	return v[len(v)/2]
}

type item struct {
	Name  string
	Price float64
	Tags  []string
	Inner map[string]int
}

func documents() uint64 {
	list := make([]item, 100)
	for i := range list {
		list[i] = item{fmt.Sprint("item ", i), float64(i) * 1.5, []string{"a", "b", "c"}, map[string]int{"x": i, "y": 2 * i}}
	}
	n := 0
	for range 20 {
		b, err := json.Marshal(list)
		if err != nil {
			panic(err)
		}
		var back []item
		if err := json.Unmarshal(b, &back); err != nil {
			panic(err)
		}
		n += len(b) + len(back)
	}
	return uint64(n)
}

func hashing() uint64 {
	buf := make([]byte, 1<<20)
	n := uint64(0)
	for i := range 8 {
		buf[0] = byte(i)
		sum := sha256.Sum256(buf)
		n += uint64(sum[0])
	}
	return n
}

// bytes is the tightest loop there is: a check costs most here.
func bytes() uint64 {
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i * 7)
	}
	n := uint64(0)
	for range 40 {
		for _, b := range buf {
			if b == 'w' {
				n++
			}
		}
	}
	return n
}
