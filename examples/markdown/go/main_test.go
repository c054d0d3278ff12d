package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// TestPolicyNamesScript keeps the page's policy in step with its only script.
func TestPolicyNamesScript(t *testing.T) {
	_, rest, _ := strings.Cut(page, "<script>")
	script, _, _ := strings.Cut(rest, "</script>")
	sum := sha256.Sum256([]byte(script))
	if want := "script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(page, want) {
		t.Errorf("the policy in index.html should say %s", want)
	}
}

func TestRender(t *testing.T) {
	for in, want := range map[string]string{
		"# A *b*":              "<h1>A <em>b</em></h1>",
		"<https://edge.test/>": `<a href="https://edge.test/"`,
	} {
		if got := mustHTML(t, in); !strings.Contains(got, want) {
			t.Errorf("%q: %s; want %s", in, got, want)
		}
	}
}

func mustHTML(t *testing.T, in string) string {
	out, err := toHTML([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// hostile are texts that try to get a script into the page.
var hostile = []string{
	"<script>alert(1)</script>",
	"<img src=x onerror=alert(1)>",
	"a <b onclick=alert(1)>b</b>",
	"[x](javascript:alert(1))",
	"[x](JaVaScRiPt:alert(1))",
	"[x](&#106;avascript:alert(1))",
	"[x](data:text/html,<script>1</script>)",
	"<javascript:alert(1)>",
	"![x](x\" onerror=\"alert(1))",
	"![x\" onerror=\"alert(1)](y 'a\"b')",
	"```\"><script>\nx\n```",
	"[a]: javascript:alert(1)\n\n[a]",
	"| a\" | b |\n|:--|--:|\n| <i> | 2 |",
	"~~<s>~~ **a** `<b>` &lt;script&gt; # {#id\"}",
}

// FuzzNothingRuns demands that the HTML has only tags and attributes that show something.
func FuzzNothingRuns(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := mustHTML(t, in)
		for z := html.NewTokenizer(strings.NewReader(out)); ; {
			switch z.Next() {
			case html.ErrorToken:
				return
			case html.StartTagToken, html.SelfClosingTagToken:
				checkTag(t, in, out, z.Token())
			}
		}
	})
}

const allowedTags = " h1 h2 h3 h4 h5 h6 p br hr em strong code pre blockquote ul ol li a img "
const allowedAttributes = " href src alt title start class "

func checkTag(t *testing.T, in, out string, tag html.Token) {
	if !strings.Contains(allowedTags, " "+tag.Data+" ") {
		t.Fatalf("%q: tag %s in %s", in, tag.Data, out)
	}
	for _, a := range tag.Attr {
		if !strings.Contains(allowedAttributes, " "+a.Key+" ") {
			t.Fatalf("%q: attribute %s in %s", in, a.Key, out)
		}
		if a.Key != "href" {
			continue
		}
		// Browsers skip control characters and spaces in a scheme.
		link := strings.ToLower(strings.Map(func(r rune) rune {
			if r <= ' ' {
				return -1
			}
			return r
		}, a.Val))
		for _, bad := range []string{"javascript:", "vbscript:", "data:", "file:"} {
			if strings.HasPrefix(link, bad) {
				t.Fatalf("%q: link %q in %s", in, a.Val, out)
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	w := httptest.NewRecorder()
	serve(w, httptest.NewRequest("POST", "/render", strings.NewReader(strings.Repeat("x", maxText+1))))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", w.Code)
	}
}
