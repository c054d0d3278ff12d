package cache

import (
	"net/http"
	"testing"
	"time"
)

// TestInitialAge: what a response's age is when it comes, of one that was asked for 0.9 s into a second.
func TestInitialAge(t *testing.T) {
	second := time.Date(2026, 1, 1, 12, 0, 7, 0, time.UTC)
	asked := second.Add(900 * time.Millisecond)
	for _, c := range []struct {
		date, took time.Duration // the Date, from the second on
		age        string
		want       time.Duration
	}{
		{0, 200 * time.Millisecond, "", 200 * time.Millisecond}, // made in the second in which it was asked for
		{time.Second, 200 * time.Millisecond, "", 200 * time.Millisecond},
		{-time.Second, 200 * time.Millisecond, "", 2100 * time.Millisecond}, // made before
		{-time.Minute, 0, "", 60900 * time.Millisecond},
		{time.Minute, 0, "", 0}, // by a clock that is ahead
		{0, 1500 * time.Millisecond, "", 1500 * time.Millisecond},
		{0, 200 * time.Millisecond, "30", 30200 * time.Millisecond},
		{-time.Minute, 0, "3", 60900 * time.Millisecond},
		{-time.Minute, 0, "90", 90 * time.Second},
	} {
		h := http.Header{"Date": {second.Add(c.date).Format(http.TimeFormat)}}
		if c.age != "" {
			h.Set("Age", c.age)
		}
		if got := initialAge(h, asked, asked.Add(c.took)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if got := initialAge(http.Header{}, asked, asked.Add(time.Second)); got != time.Second {
		t.Errorf("without a Date: %v", got)
	}
}
