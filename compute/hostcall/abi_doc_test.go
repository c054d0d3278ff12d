package hostcall

import (
	goflag "flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge/abi"
)

var updateDoc = goflag.Bool("update", false, "write the table of docs/abi.md anew")

const (
	abiDoc      = "../../docs/abi.md"
	beginOfABI  = "<!-- begin: rendered by compute/hostcall/abi_doc_test.go -->\n"
	endOfABI    = "<!-- end -->\n"
	refreshHint = "go test ./compute/hostcall -run TestABIDoc -update"
)

// TestABIDoc sees that docs/abi.md tells the truth: its tables are rendered from the ABI and from
// what is implemented.
func TestABIDoc(t *testing.T) {
	doc, err := os.ReadFile(abiDoc)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), beginOfABI)
	_, tail, ok2 := strings.Cut(rest, endOfABI)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the line %q, or after it %q", abiDoc, beginOfABI, endOfABI)
	}
	want := head + beginOfABI + abiTables() + endOfABI + tail
	if want == string(doc) {
		return
	}
	if !*updateDoc {
		t.Fatalf("%s does not match the code; run: %s", abiDoc, refreshHint)
	}
	if err := os.WriteFile(abiDoc, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// abiTables renders how much of each module is there, and then every call, in the order of
// abi.Hostcalls.
func abiTables() string {
	var order []string
	n := map[string]map[Support]int{"all": {}}
	var rows strings.Builder
	for _, d := range abi.Hostcalls {
		if n[d.Module] == nil {
			order, n[d.Module] = append(order, d.Module), map[Support]int{}
		}
		s, why := Supported(d)
		n[d.Module][s]++
		n["all"][s]++
		fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", d.Module, d.Name, s, why)
	}
	var b strings.Builder
	b.WriteString("\n| module | calls | complete | partial | unsupported |\n|---|---|---|---|---|\n")
	for _, m := range append(order, "all") {
		c := n[m]
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", m, c[Complete]+c[Partial]+c[Unsupported], c[Complete], c[Partial], c[Unsupported])
	}
	b.WriteString("\n## Every call\n\n| module | call | status | why |\n|---|---|---|---|\n")
	b.WriteString(rows.String())
	b.WriteString("\n")
	return b.String()
}

// TestSupport holds what is said of calls to what they do: what is not there has a reason, and is not offered to guests; and
// no reason is for a call that does not exist, or given twice.
func TestSupport(t *testing.T) {
	table := Table()
	for _, d := range abi.Hostcalls {
		s, why := Supported(d)
		if (s == Unsupported) != (table[d] == nil) || (s == Complete) != (why == "") {
			t.Errorf("%s is %s (%q), offered: %v", d, s, why, table[d] != nil)
		}
	}
	seen := map[string]bool{}
	for _, l := range lacks {
		for _, call := range l.calls {
			if abi.ByName(call) == nil || seen[call] {
				t.Errorf("%s: %q is said of a call that there is not, or that has another reason", call, l.why)
			}
			seen[call] = true
		}
		if len(l.calls) == 0 {
			t.Errorf("%q is said of nothing", l.why)
		}
	}
	if s, _ := Supported(nil); s != Unsupported {
		t.Error("a call that there is not is offered")
	}
}
