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
	total, done := map[string]int{}, map[string]int{}
	var rows strings.Builder
	table := Table()
	for _, d := range abi.Hostcalls {
		if total[d.Module]++; total[d.Module] == 1 {
			order = append(order, d.Module)
		}
		status := "unsupported"
		if table[d] != nil {
			status = "complete"
			done[d.Module]++
		}
		fmt.Fprintf(&rows, "| %s | %s | %s |\n", d.Module, d.Name, status)
	}
	var b strings.Builder
	b.WriteString("\n| module | calls | complete | unsupported |\n|---|---|---|---|\n")
	for _, m := range order {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", m, total[m], done[m], total[m]-done[m])
	}
	fmt.Fprintf(&b, "| all | %d | %d | %d |\n", len(abi.Hostcalls), len(table), len(abi.Hostcalls)-len(table))
	b.WriteString("\n## Every call\n\n| module | call | status |\n|---|---|---|\n")
	b.WriteString(rows.String())
	b.WriteString("\n")
	return b.String()
}
