package merge

import (
	"encoding/json"
	"fmt"
	"testing"
)

var benchStamp = Stamp{Instant{Wall: 1_700_000_000_000}, Writer{"fra1", 1}, 0}

func thousand(b *testing.B) (v *Value) {
	v = New(AddWins)
	for i := range 999 {
		var err error
		if v, _, err = v.Apply(Op{Op: "add", Value: json.RawMessage(fmt.Sprintf(`"element %d"`, i))}, benchStamp); err != nil {
			b.Fatal(err)
		}
	}
	return v
}

// The write path: read, change, write both.
func BenchmarkCounterAdd(b *testing.B) {
	v, _, _ := New(Counter).Apply(Op{Op: "add", By: 3}, benchStamp)
	stored := v.Encode()
	b.ReportAllocs()
	for b.Loop() {
		v, _ := Decode(stored)
		next, delta, _ := v.Apply(Op{Op: "add", By: 1}, benchStamp)
		stored, _ = next.Encode(), delta.Encode()
	}
}

func BenchmarkSetAdd1000th(b *testing.B) {
	v := thousand(b)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = v.Apply(Op{Op: "add", Value: json.RawMessage(`"the thousandth"`)}, benchStamp)
	}
}

func BenchmarkJoinDelta(b *testing.B) {
	v := thousand(b)
	_, delta, _ := v.Apply(Op{Op: "add", Value: json.RawMessage(`"the thousandth"`)}, Stamp{benchStamp.Instant, Writer{"nyc1", 1}, 0})
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Join(v, delta)
	}
}

func BenchmarkEncode1000(b *testing.B) {
	v := thousand(b)
	b.SetBytes(int64(len(v.Encode())))
	b.ReportAllocs()
	for b.Loop() {
		v.encoded = nil
		_ = v.Encode()
	}
}

func BenchmarkDecode1000(b *testing.B) {
	bytes := thousand(b).Encode()
	b.SetBytes(int64(len(bytes)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Decode(bytes)
	}
}
