package wedgetest

import (
	"net/url"
	"testing"
)

func edgeNode(t testing.TB) *Node {
	return shared(t, "jsedge", func() App { return App{Guest: JSGuest(t, Guest("jsedge")), Manifest: bindings()} })
}

// TestJSRates counts and punishes as a JavaScript program does. Minutes are not waited for: see TestCheckRate.
func TestJSRates(t *testing.T) {
	testAsks(t, edgeNode(t), []asks{
		{path: "/rates?key=a", want: `{"blocked":[false,false,false,true],"count":85,"rate":2,"has":[true,true,false],"bad":["Error","Error","Error"]}`},
		{path: "/rates?key=b", want: `{"blocked":[false,false,false,true],"count":85,"rate":2,"has":[true,true,false],"bad":["Error","Error","Error"]}`},
		{path: "/rates?key=a", want: `{"blocked":[true,true,true,true],"count":170,"rate":3,"has":[true,true,false],"bad":["Error","Error","Error"]}`},
	})
}

// TestJSImages asks for images as the JavaScript SDK writes it down.
func TestJSImages(t *testing.T) {
	image := func(options string) string { return "/image?path=/picture.png&o=" + url.QueryEscape(options) }
	is := func(typ, info, warning string) string {
		return `{"status":200,"type":"image/` + typ + `","info":"idim=120x80 ifmt=png ` + info + `","warning":` + warning + `}`
	}
	testAsks(t, edgeNode(t), []asks{
		{path: image(`{"width":30,"format":"jpg","quality":50}`), want: is("jpeg", "odim=30x20 ofmt=jpeg", "null")},
		{path: image(`{"width":"50%","height":60,"fit":"cover"}`), want: is("png", "odim=90x60 ofmt=png", "null")},
		{path: image(`{"crop":{"size":{"ratio":{"width":4,"height":3}},"position":{"offsetX":10,"y":5},"mode":"safe"},"bgColor":{"r":1,"g":2,"b":3,"a":0.5},` +
			`"pad":{"top":1,"bottom":"2%","left":3,"right":4},"canvas":{"size":{"absolute":{"width":100,"height":"50%"}},"position":{"x":1,"offsetY":2}},` +
			`"sharpen":{"amount":5,"radius":2,"threshold":1},"trim":{"top":1,"bottom":"2%","left":3,"right":4},"blur":"1%","orient":"2","bw":"threshold",` +
			`"dpr":2,"frame":1,"trimColor":{"color":"fff","threshold":0.5}}`), want: is("png", "odim=110x74 ofmt=png", "null")},
		{path: image(`{"format":"webp","width":10}`), want: is("webp", "odim=10x7 ofmt=webp", "null")},
		{path: image(`{"format":"jxl","width":10}`), want: is("png", "odim=10x7 ofmt=png", `"format jxl is not made here"`)},
		{path: image(`{"format":"svg"}`), want: "Error"},
		{path: "/image?path=/hello&o={}", want: "Error"},
		{path: "/image?path=/redirect&o={}", want: `{"status":302,"type":"text/html; charset=utf-8","info":null,"warning":null}`},
	})
}
