package wedgetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fleet "github.com/wedge-cloud/wedge/world"
)

// TestSharedExamples drives the examples of values that PoPs share, in one world as people start it.
func TestSharedExamples(t *testing.T) {
	t.Parallel()
	Need(t, "go")
	limited := t.TempDir()
	for name, b := range map[string][]byte{"wedge.toml": []byte("name = \"limited\"\nguest = \"guest.wasm\"\n"), "guest.wasm": JSGuest(t, Guest("jsedge"))} {
		if err := os.WriteFile(filepath.Join(limited, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := startWorld(t, Root("examples", "guestbook"), Root("examples", "tickets"), Root("examples", "rum"), Root("examples", "ratelimit"), limited)
	t.Run("guestbook", func(t *testing.T) { testGuestbook(worldOf{f, t, "guestbook"}) })
	t.Run("tickets", func(t *testing.T) { testTickets(worldOf{f, t, "tickets"}) })
	t.Run("rum", func(t *testing.T) { testRum(worldOf{f, t, "rum"}) })
	t.Run("ratelimit", func(t *testing.T) { testRatelimit(worldOf{f, t, "ratelimit"}) })
	t.Run("limited", func(t *testing.T) { testLimited(worldOf{f, t, "limited"}) })
}

// worldProcess is a wedge world that runs.
type worldProcess struct {
	control string
	urls    map[string]string // by PoP
}

// worldOf is one of its services.
type worldOf struct {
	*worldProcess
	t       *testing.T
	service string
}

var everyPoP = []string{"lhr", "nyc", "nrt"}

func startWorld(t *testing.T, dirs ...string) *worldProcess {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &worldProcess{control: l.Addr().String(), urls: map[string]string{}}
	l.Close()
	cmd := exec.Command(wedgeBinary(t), append([]string{"world", "--flat", "--port", "0", "--control", f.control}, dirs...)...)
	out := new(Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		all, err := f.order("status")
		for _, s := range all {
			if s.URL != "" {
				f.urls[s.PoP.Name] = s.URL
			}
		}
		if len(f.urls) == len(everyPoP) {
			return f
		}
		select {
		case <-ended:
			t.Fatalf("the world has ended:\n%s", out)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the world does not come up: %v\n%s", err, out)
		}
	}
}

// order tells the world to do something.
func (f *worldProcess) order(do string, pops ...string) (all []fleet.Status, err error) {
	method := http.MethodPost
	if do == "status" {
		method = http.MethodGet
	}
	body, err := json.Marshal(fleet.Order{Do: do, PoPs: pops})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, "http://"+f.control+"/world", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", do, resp.StatusCode)
	}
	return all, json.NewDecoder(resp.Body).Decode(&all)
}

func (f worldOf) tell(do string, pops ...string) {
	f.t.Helper()
	if _, err := f.order(do, pops...); err != nil {
		f.t.Fatal(err)
	}
}

// ask sends a request to a PoP, and reads the answer into v if that is not nil.
func (f worldOf) ask(pop, method, path, body string, v any) (status int, text string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.urls[pop]+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Host = f.service + ".localhost"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && v != nil && resp.StatusCode == 200 {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (f worldOf) becomes(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// testGuestbook: what is written at PoPs that cannot reach each other is in both their books, and then in all.
func testGuestbook(f worldOf) {
	t := f.t
	type view struct {
		PoP     string
		Visits  int
		Entries []struct{ Name, Text, PoP string }
	}
	if status, page := f.ask("lhr", "GET", "/", "", nil); status != 200 || !strings.Contains(page, "/page.js") {
		t.Errorf("the page: %d", status)
	}
	f.tell("cut", "nrt")
	for _, pop := range everyPoP {
		var v view
		if status, text := f.ask(pop, "POST", "/api/entry", `{"name":"Ada","text":"from `+pop+`"}`, &v); status != 200 || len(v.Entries) == 0 || v.Entries[0].Text != "from "+pop || v.Entries[0].PoP != pop {
			t.Fatalf("%s: %d %s", pop, status, text)
		}
		if status, text := f.ask(pop, "POST", "/api/visit", "{}", &v); status != 200 || v.PoP != pop {
			t.Fatalf("%s: %d %s", pop, status, text)
		}
	}
	if status, _ := f.ask("nrt", "POST", "/api/entry", `{"name":" ","text":"x"}`, nil); status != 400 {
		t.Errorf("an entry without a name: %d", status)
	}
	f.tell("heal", "nrt")
	for _, pop := range everyPoP {
		f.becomes("all is in "+pop+"'s book", func() bool {
			var v view
			f.ask(pop, "GET", "/api", "", &v)
			return v.Visits == 3 && len(v.Entries) == 3
		})
	}
}

// testRum: what pages report to PoPs is shown at all of them; a PoP that is cut off shows what it takes itself.
func testRum(f worldOf) {
	t := f.t
	type row struct {
		Values  []string
		Count   float64
		Metrics []struct {
			Name     string
			P50      float64
			Distinct int
		}
	}
	var v struct {
		From                       string
		All, Times, Pages, Devices []row
	}
	for _, path := range []string{"/", "/slow", "/page.js"} {
		if status, _ := f.ask("nyc", "GET", path, "", nil); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	n := 0
	visit := func(pop, path string) {
		t.Helper()
		n++
		event := fmt.Sprintf(`{"id":"%d","visitor":"%s","path":%q,"device":"phone","ttfb":9,"load":%d}`, n, pop, path, 100*n)
		for range 2 { // the second is the same event again
			if status, text := f.ask(pop, "POST", "/beacon", event, nil); status != 204 {
				t.Fatalf("%s: %d %s", pop, status, text)
			}
		}
	}
	visit("lhr", "/")
	visit("lhr", "/shop")
	visit("nrt", "/")
	for _, pop := range []string{"lhr", "nrt"} {
		f.becomes("all visits are shown at "+pop, func() bool {
			status, text := f.ask(pop, "GET", "/api", "", &v)
			if status != 200 || !strings.HasPrefix(v.From, `pop="`+pop+`"; age=`) {
				t.Fatalf("%d %s", status, text)
			}
			return len(v.All) == 1 && v.All[0].Count == 3 && len(v.Pages) == 3
		})
	}
	if m := v.All[0].Metrics; len(m) != 4 || m[0].Name != "load" || m[0].P50 < 198 || m[0].P50 > 202 || m[3].Distinct != 2 || v.Devices[0].Values[0] != "phone" {
		t.Errorf("%+v", v.All)
	}
	f.tell("cut", "nrt")
	visit("nrt", "/news")
	f.becomes("a PoP that is cut off shows its own", func() bool { f.ask("nrt", "GET", "/api", "", &v); return v.All[0].Count == 4 })
	f.tell("heal", "nrt")
	f.becomes("and then all do", func() bool { f.ask("lhr", "GET", "/api", "", &v); return v.All[0].Count == 4 })
}

// testTickets: PoPs that cannot reach each other sell what they hold; a seat that two gave away is one buyer's, and the other is told and
// has another.
func testTickets(f worldOf) {
	t := f.t
	type view struct {
		Total, Sold, Left int
		Plan              map[string]string
		Sorry             []struct{ Who, Seat, Now, PoP string }
	}
	see := func(pop string) (v view) { f.ask(pop, "GET", "/api", "", &v); return v }
	f.becomes("the sale is open", func() bool {
		status, _ := f.ask("lhr", "POST", "/api/open", "{}", nil)
		return status == 200
	})
	f.becomes("nrt opens no second one", func() bool {
		status, _ := f.ask("nrt", "POST", "/api/open", "{}", nil)
		return status == 200 && see("nrt").Total == 100
	})
	buy := func(pop, who string, seat int) int {
		status, _ := f.ask(pop, "POST", "/api/buy", fmt.Sprintf(`{"name":%q,"seat":%d}`, who, seat), nil)
		return status
	}
	before := 0
	for _, pop := range everyPoP {
		f.becomes(pop+" sells, and holds more", func() bool { // the first may come from a PoP that has few itself
			if buy(pop, "first at "+pop, 100-before) == 200 {
				before++
			}
			return see(pop).Left >= 5
		})
	}
	f.becomes("all hold some at the same time", func() bool { // one may have given what it held to another
		for _, pop := range everyPoP {
			if see(pop).Left >= 3 {
				continue
			}
			if buy(pop, "more at "+pop, 100-before) == 200 {
				before++
			}
			return false
		}
		return true
	})
	f.becomes("all know of these", func() bool {
		return see("lhr").Sold == before && see("nyc").Sold == before && see("nrt").Sold == before && len(see("lhr").Plan) == before
	})
	f.tell("cut", everyPoP...)
	held := map[string]int{}
	for _, pop := range everyPoP {
		held[pop] = see(pop).Left
	}
	if held["lhr"]+held["nyc"]+held["nrt"] != 100-before {
		t.Errorf("held: %v", held)
	}
	sold := 0
	for _, pop := range []string{"nyc", "nrt"} {
		if status, text := f.ask(pop, "POST", "/api/buy", `{"name":"Ada at `+pop+`","seat":7}`, nil); status != 200 {
			t.Fatalf("cut off, %s does not sell seat 7: %d %s", pop, status, text)
		}
		if status := buy(pop, "again", 7); status != 409 {
			t.Errorf("cut off, %s sells seat 7 again: status %d", pop, status)
		}
		sold++
		for ; see(pop).Left > 0; sold++ {
			if status := buy(pop, pop, 0); status != 200 {
				t.Fatalf("%s has more and does not sell it: status %d", pop, status)
			}
		}
		if status, text := f.ask(pop, "POST", "/api/buy", `{"name":"late"}`, nil); status != 409 || !strings.Contains(text, "which cannot be reached") {
			t.Errorf("%s has sold all it holds: %d %s", pop, status, text)
		}
	}
	f.tell("heal", everyPoP...)
	f.becomes("whoever lost a seat has another, and all know", func() bool {
		for _, pop := range everyPoP {
			v := see(pop)
			people := map[string]bool{}
			for _, who := range v.Plan {
				people[who] = true
			}
			if v.Sold != before+sold || len(v.Sorry) == 0 || !people["Ada at nyc"] || !people["Ada at nrt"] || len(v.Plan) != v.Sold {
				return false
			}
		}
		return true
	})
	if status, _ := f.ask("lhr", "POST", "/sorry", `{"key":"plan","path":["7"],"who":"a thief"}`, nil); status != 404 {
		t.Errorf("a client apologises: status %d", status)
	}
}

// testRatelimit: a visitor is let in twenty times, by all PoPs together, unless a minute ends meanwhile; the page is not counted.
func testRatelimit(f worldOf) {
	let := 0
	f.becomes("all refuse", func() bool {
		refused := 0
		for _, pop := range everyPoP {
			switch status, text := f.ask(pop, "GET", "/ask", "", nil); status {
			case 200:
				let++
			case 429:
				refused++
			default:
				f.t.Fatalf("%s: %d %s", pop, status, text)
			}
		}
		return refused == len(everyPoP)
	})
	if let < 20 || let > 40 {
		f.t.Errorf("%d were let in", let)
	}
	for _, path := range []string{"/", "/page.js"} {
		if status, _ := f.ask("nrt", "GET", path, "", nil); status != 200 {
			f.t.Errorf("%s: %d", path, status)
		}
	}
}

// testLimited: what a guest limits by the SDK's rate limiter is limited over all PoPs, and who is in its penalty box is in it at all.
func testLimited(f worldOf) {
	const limit, asks = 60, 150
	let := map[string]int{}
	for key := range 5 { // a window that ends meanwhile lets more in
		name := fmt.Sprint("visitor", key)
		for i := range asks {
			if status, _ := f.ask(everyPoP[i%len(everyPoP)], "GET", "/limited?key="+name, "", nil); status == 200 {
				let[name]++
			}
		}
		if n := let[name]; n < limit/2 || n > limit*3/2 {
			continue
		}
		f.becomes("the key is in the box at all PoPs", func() bool {
			for _, pop := range everyPoP {
				if status, _ := f.ask(pop, "GET", "/limited?key="+name, "", nil); status != 429 {
					return false
				}
			}
			return true
		})
		return
	}
	f.t.Errorf("of %d requests with a limit of %d were let in: %v", asks, limit, let)
}
