package wedgetest
import ("testing";"os";"strings";"fmt";"net/url";"github.com/wedge-cloud/wedge/node")
func TestExplore(t *testing.T) {
	n := jsNode(t)
	if os.Getenv("X") == "trace" { var err error; n, err = Open(t.TempDir(), App{Guest: JSGuest(t, Guest("js")), Manifest: bindings()}, func(c *node.Config) { c.Trace = true }); if err != nil { t.Fatal(err) }; defer n.Stop() }
	if os.Getenv("X") == "go" { n = goNode(t) }
	for _, p := range strings.Fields(os.Getenv("P")) {
		method, path, _ := strings.Cut(p, ":")
		if path == "" { method, path = "GET", p }
		path = strings.ReplaceAll(path, "ORIGIN", url.QueryEscape(world.origin.Host()))
		var r Response
		if method == "GET" { r = n.Get(t, path) } else { r = n.Do(t, method, path, strings.NewReader("--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX--\r\n"), "Content-Type: multipart/form-data; boundary=XX") }
		fmt.Printf("== %s %d %v %v\n%s\n", path, r.StatusCode, r.Header, r.Err, cutText(r.Text))
	}
	fmt.Println("STDOUT:", cutText(n.Stdout.String())); fmt.Println("STDERR:", n.Stderr.String())
}
