package wedgetest

import "testing"

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
