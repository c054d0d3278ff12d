package wedgetest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A fleet of processes, as an operator has it: what is done to it is done with the command line.

// child is a process that the test has started.
type child struct {
	cmd *exec.Cmd
	out *Buffer
}

func begin(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	p := &child{cmd: cmd, out: &Buffer{Max: 256 << 10}}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends it at once, whatever it does.
func (p *child) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// patience is how long a core of several servers may take for something that it does after it has lost one.
const patience = 90 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func freePorts(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for tries := 0; len(addrs) < n; tries++ {
		port := 10_000 + rand.IntN(20_000) // below those that systems give to whoever asks for any
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil && tries > 1000 {
			t.Fatal(err)
		}
		if err == nil {
			l.Close()
			addrs = append(addrs, l.Addr().String())
		}
	}
	return addrs
}

var given sync.Map // ports that freePorts has returned

// operator uses the command line.
type operator struct {
	t      *testing.T
	bin    string
	api    string
	token  string
	config string
}

func (o *operator) try(args ...string) (string, error) {
	ctx, stop := context.WithTimeout(o.t.Context(), patience/3)
	defer stop()
	cmd := exec.CommandContext(ctx, o.bin, args...)
	cmd.Env = append(os.Environ(), "WEDGE_API="+o.api, "WEDGE_TOKEN="+o.token, "XDG_CONFIG_HOME="+o.config)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// site writes an app of static files whose page says text.
func (o *operator) site(text string) string {
	o.t.Helper()
	dir := o.t.TempDir()
	for name, b := range map[string]string{
		"public/index.html": text,
		"wedge.toml":        "name = \"site\"\nhosts = [\"site.example\"]\n[backends.files]\ndir = \"public\"\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			o.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
	return dir
}

// deploy tries until it is done: who leads may have to be found first.
func (o *operator) deploy(text string) {
	o.t.Helper()
	dir := o.site(text)
	began := time.Now()
	var last string
	eventually(o.t, "deploy "+text, func() bool {
		out, err := o.try("deploy", "--hold", "0", dir)
		if err != nil && out != last {
			o.t.Logf("deploy: %v\n%s", err, out)
			last = out
		}
		return err == nil
	})
	o.t.Logf("%s was deployed within %v", text, time.Since(began).Round(time.Millisecond))
}

// pop is a PoP's process and what clients see of it.
type pop struct {
	*child
	addr   string
	served atomic.Int64
	failed atomic.Pointer[string]
}

// begin starts a PoP that joins.
func (o *operator) begin(name, addr string) *pop {
	o.t.Helper()
	line, err := o.try("pops", "add", name)
	if err != nil {
		o.t.Fatal(line)
	}
	line = line[strings.LastIndexByte(line, '\n')+1:]
	conf := fmt.Sprintf("roles = [\"pop\"]\ndata = \"data\"\n[place]\nname = %q\n[join]\ninvitation = %q\n[http]\nlisten = [%q]\n[peers]\nlisten = \"127.0.0.1:0\"\n", name, line, addr)
	p := &pop{child: begin(o.t, exec.Command(o.bin, "node", "--config", file(o.t, "node.toml", []byte(conf)))), addr: addr}
	return p
}

// page asks for the site.
func (p *pop) page() (string, error) {
	resp, err := http.DefaultClient.Do(&http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: p.addr, Path: "/"}, Host: "site.example"})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b := make([]byte, 100)
	n, _ := resp.Body.Read(b)
	return fmt.Sprint(resp.StatusCode, " ", string(b[:n])), nil
}

func (p *pop) serves(t *testing.T, text string) {
	t.Helper()
	eventually(t, p.addr+" serves "+text+"\n"+p.out.String(), func() bool {
		got, err := p.page()
		return err == nil && got == "200 "+text
	})
}

// watch asks again and again until ctx ends.
func (p *pop) watch(ctx context.Context) {
	for ctx.Err() == nil {
		got, err := p.page()
		if err != nil || !strings.HasPrefix(got, "200 ") {
			got += fmt.Sprint(" ", err)
			p.failed.CompareAndSwap(nil, &got)
		}
		p.served.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

// outlives has the fleet do all that it does while one of its servers after the other is killed and started anew.
func (o *operator) outlives(apis []string, kill func(i int), start func(i int)) {
	o.t.Helper()
	addrs := freePorts(o.t, 2)
	pops := []*pop{o.begin("lhr", addrs[0]), o.begin("nyc", addrs[1])}
	defer func() {
		for _, p := range pops {
			if o.t.Failed() {
				o.t.Log(p.out)
			}
		}
	}()
	o.deploy("page 1")
	for _, p := range pops {
		p.serves(o.t, "page 1")
	}
	ctx, stop := context.WithCancel(o.t.Context())
	var w sync.WaitGroup
	for _, p := range pops {
		w.Go(func() { p.watch(ctx) })
	}
	n := 1
	for i := range 2 {
		kill(i)
		o.api = apis[(i+1)%len(apis)]
		n++
		o.deploy(fmt.Sprint("page ", n))
		for _, p := range pops {
			p.serves(o.t, fmt.Sprint("page ", n))
		}
		start(i)
	}
	stop()
	w.Wait()
	for _, p := range pops {
		if f := p.failed.Load(); f != nil {
			o.t.Errorf("one of %d requests failed: %s\n%s", p.served.Load(), *f, p.out)
		}
	}
	if out, err := o.try("audit", "--json"); err != nil || strings.Count(out, `"kind":"done"`)+strings.Count(out, `"kind": "done"`) != n {
		o.t.Errorf("the audit log does not have %d releases: %v\n%s", n, err, out)
	}
}

// TestCoreOfThree: a core's servers are killed one after the other; the fleet deploys, and no request fails.
func TestCoreOfThree(t *testing.T) {
	t.Parallel()
	bin, dir := wedgeBinary(t), t.TempDir()
	listen, cluster, apis := freePorts(t, 3), freePorts(t, 3), freePorts(t, 3)
	peers, _ := json.Marshal(cluster)
	data := func(i int) string { return filepath.Join(dir, fmt.Sprint("core", i)) }
	var cores [3]*child
	start := func(i int) {
		conf := fmt.Sprintf("roles = [\"core\"]\ndata = %q\n[core]\nname = \"core%d\"\nlisten = %q\npublic = %[3]q\ncluster = %[4]q\npeers = %[5]s\napi = %[6]q\n",
			data(i), i, listen[i], cluster[i], peers, apis[i])
		cores[i] = begin(t, exec.Command(bin, "node", "--config", file(t, "node.toml", []byte(conf))))
	}
	keys := func(i int) string { return filepath.Join(data(i), "core", "keys") }
	start(0)
	eventually(t, "the first server has keys", func() bool {
		_, err := os.Stat(filepath.Join(keys(0), "core.crt"))
		return err == nil
	})
	for i := 1; i < 3; i++ {
		if err := os.CopyFS(keys(i), os.DirFS(keys(0))); err != nil {
			t.Fatal(err)
		}
		start(i)
	}
	o := &operator{t: t, bin: bin, api: "http://" + apis[0], config: dir}
	defer func() {
		for _, c := range cores {
			if t.Failed() {
				t.Log(c.out)
			}
		}
	}()
	eventually(t, "one of the servers has made a token", func() bool {
		for i := range 3 {
			if b, err := os.ReadFile(filepath.Join(data(i), "core", "admin-token")); err == nil {
				o.token = strings.TrimSpace(string(b))
			}
		}
		_, err := o.try("pops")
		return err == nil
	})
	o.outlives([]string{"http://" + apis[0], "http://" + apis[1], "http://" + apis[2]}, func(i int) { cores[i].kill() }, func(i int) {
		start(i)
		eventually(t, "a server that was killed is back\n"+cores[i].out.String(), func() bool { // its API answers when it has caught up
			at := *o
			at.api = "http://" + apis[i]
			_, err := at.try("services")
			return err == nil
		})
		time.Sleep(2 * time.Second) // nobody says when it has caught up with every log; two of three must have
	})
}

// natsSpec is what a process of this test binary is to be: a NATS that is run apart from Wedge.
type natsSpec struct {
	Name, Dir     string
	Port, Cluster string
	Routes        []string
}

const natsVariable = "WEDGE_TEST_NATS"

// runNATS is the process.
func runNATS(text string) {
	var spec natsSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		panic(err)
	}
	o := &server.Options{ServerName: spec.Name, JetStream: true, StoreDir: spec.Dir, SyncAlways: true, JetStreamMaxStore: 1 << 50} // or else the bounds of all logs have to fit into the disk
	o.Host, o.Cluster.Host, o.Cluster.Name = "127.0.0.1", "127.0.0.1", "nats"
	fmt.Sscan(spec.Port, &o.Port)
	fmt.Sscan(spec.Cluster, &o.Cluster.Port)
	for _, r := range spec.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	s, err := server.NewServer(o)
	if err != nil {
		panic(err)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
}

// TestForeignNATS: the same with a NATS of three servers that is run apart, and a core that keeps nothing itself.
func TestForeignNATS(t *testing.T) {
	t.Parallel()
	bin, dir := wedgeBinary(t), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	addrs, cluster, apis := freePorts(t, 3), freePorts(t, 3), freePorts(t, 1)
	var servers [3]*child
	start := func(i int) {
		port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
		spec, _ := json.Marshal(natsSpec{Name: fmt.Sprint("nats", i), Dir: filepath.Join(dir, fmt.Sprint("nats", i)), Port: port(addrs[i]), Cluster: port(cluster[i]), Routes: cluster})
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), natsVariable+"="+string(spec))
		servers[i] = begin(t, cmd)
	}
	var urls []string
	for i := range servers {
		start(i)
		urls = append(urls, "nats://"+addrs[i])
	}
	list, _ := json.Marshal(urls)
	conf := fmt.Sprintf("roles = [\"core\"]\ndata = %q\n[core]\napi = %q\n[core.nats]\nurls = %s\ncopies = 3\n", filepath.Join(dir, "core"), apis[0], list)
	core := begin(t, exec.Command(bin, "node", "--config", file(t, "node.toml", []byte(conf))))
	o := &operator{t: t, bin: bin, api: "http://" + apis[0], config: dir}
	defer func() { // also if something did not come
		if t.Failed() {
			t.Log(core.out)
			for _, s := range servers {
				t.Log(s.out)
			}
		}
	}()
	eventually(t, "the core's API answers", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "core", "core", "admin-token"))
		o.token = strings.TrimSpace(string(b))
		_, err := o.try("pops")
		return err == nil
	})
	o.outlives([]string{"http://" + apis[0]}, func(i int) { servers[i].kill() }, func(i int) {
		start(i)
		time.Sleep(3 * time.Second)
	})
}
