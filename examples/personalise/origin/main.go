// Origin is the far server of the personalise example: an article that is slow to make and the same for
// everybody, and offers for one visitor.
package main

import (
	"encoding/json"
	"flag"
	"hash/fnv"
	"log"
	"net/http"
	"time"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8090", "`ADDRESS` to listen on")
	delay := flag.Duration("delay", 120*time.Millisecond, "`TIME` that each answer takes, as a far origin would")
	flag.Parse()
	s := &http.Server{Addr: *addr, Handler: slow(*delay, routes()), ReadHeaderTimeout: 5 * time.Second}
	log.Printf("origin on http://%s", *addr)
	log.Fatal(s.ListenAndServe())
}

func slow(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Print(r.Method, " ", r.URL)
		time.Sleep(d)
		h.ServeHTTP(w, r)
	})
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /article", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(article))
	})
	mux.HandleFunc("GET /api/offers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(offersFor(r.FormValue("for")))
	})
	return mux
}

const article = `<h1>Light is slow</h1>
<p>In one frame of your screen, light in a fibre gets about 3,300 km far. There and back that is 1,650 km,
with not a moment left for any work. What shall answer within a frame has to be near.</p>
<p>So the head of this page was sent from near you before this server had heard of you; the article came out of a
cache nearby; and only the offers have travelled.</p>
`

type offer struct {
	Title string  `json:"title"`
	Price float64 `json:"price"`
}

var shelf = []offer{{"Second-hand atlas", 12.5}, {"Pocket telescope", 39}, {"Tea for two", 4.2}, {"A fast bicycle", 420}, {"Fibre, one metre", 0.8}, {"A slow clock", 75}}

// offersFor chooses three things that depend on the name alone.
func offersFor(name string) []offer {
	h := fnv.New32a()
	h.Write([]byte(name))
	first := int(h.Sum32() % uint32(len(shelf)))
	list := make([]offer, 3)
	for i := range list {
		list[i] = shelf[(first+2*i)%len(shelf)]
	}
	return list
}
