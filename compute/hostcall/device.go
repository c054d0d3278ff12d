package hostcall

import (
	"regexp"
	"strings"

	"github.com/ua-parser/uap-go/uaparser"

	"github.com/wedge-cloud/wedge/abi"
	"github.com/wedge-cloud/wedge/compute"
)

var deviceDetection = calls{"lookup": deviceLookup}

// deviceLookup gives the version's own record for exactly this User-Agent, otherwise one
// derived from it.
func deviceLookup(c *compute.Call) abi.Status {
	full := c.String(0)
	if record, ok := c.Sandbox.Host.Version.Devices[full]; ok {
		return c.PutBuf(2, 4, string(record))
	}
	ua := userAgentArg(c)
	p := parser(c)
	record, ok := describeDevice(ua, p.ParseUserAgent(ua), p.ParseOs(ua), p.ParseDevice(ua))
	if !ok {
		return abi.None
	}
	return c.PutBuf(2, 4, string(marshal(record)))
}

// A deviceRecord is the JSON that SDKs read.
type deviceRecord struct {
	UserAgent agent  `json:"user_agent"`
	OS        named  `json:"os"`
	Device    device `json:"device"`
}

// agent says of the program what it is, and whether it is a bot, which the SDKs for Rust and Go look up here.
type agent struct {
	named
	BotName    string `json:"bot_name,omitempty"`
	IsBot      bool   `json:"is_bot"`
	Identified bool   `json:"identified"`
}

type named struct {
	Name  string `json:"name,omitempty"`
	Major string `json:"major,omitempty"`
	Minor string `json:"minor,omitempty"`
	Patch string `json:"patch,omitempty"`
}

type device struct {
	Name          string `json:"name"`
	Brand         string `json:"brand"`
	Model         string `json:"model"`
	HWType        string `json:"hwtype"`
	IsEreader     bool   `json:"is_ereader"`
	IsGameConsole bool   `json:"is_gameconsole"`
	IsMediaPlayer bool   `json:"is_mediaplayer"`
	IsMobile      bool   `json:"is_mobile"`
	IsSmartTV     bool   `json:"is_smarttv"`
	IsTablet      bool   `json:"is_tablet"`
	IsTVPlayer    bool   `json:"is_tvplayer"`
	IsDesktop     bool   `json:"is_desktop"`
	IsTouchscreen bool   `json:"is_touchscreen"`
	IsBot         bool   `json:"is_bot"`
}

// notKnown is the family that the parser gives when nothing matched.
const notKnown = "Other"

// describeDevice says what kind of device a User-Agent speaks of; ok is false if it says nothing.
func describeDevice(ua string, program *uaparser.UserAgent, os *uaparser.Os, dev *uaparser.Device) (r deviceRecord, ok bool) {
	if dev.Family == notKnown && os.Family == notKnown {
		return r, false
	}
	r.OS = named{known(os.Family), os.Major, os.Minor, os.Patch}
	r.Device = device{Name: known(dev.Family), Brand: dev.Brand, Model: dev.Model}
	r.Device.classify(strings.ToLower(ua), strings.ToLower(dev.Family))
	r.Device.rename(ua)
	r.UserAgent.named = named{known(program.Family), program.Major, program.Minor, program.Patch}
	r.UserAgent.Identified = r.UserAgent.Name != "" || r.Device.HWType != ""
	if r.UserAgent.IsBot = r.Device.IsBot; r.Device.IsBot {
		r.UserAgent.BotName = r.UserAgent.Name
	}
	return r, true
}

func known(family string) string {
	if family == notKnown {
		return ""
	}
	return family
}

// deviceKinds are tried in order; the first with a word that begins a word of the User-Agent (or of the device's family),
// both in lower case, wins.
var deviceKinds = []struct {
	hwtype string
	words  []string
	set    func(*device)
}{
	{"Robot", []string{"spider"}, func(d *device) { d.IsBot = true }},
	{"Games Console", []string{"playstation vita", "nintendo switch", "nintendo 3ds"}, func(d *device) { d.IsGameConsole, d.IsTouchscreen = true, true }},
	{"Games Console", []string{"playstation", "nintendo", "xbox"}, func(d *device) { d.IsGameConsole = true }},
	{"Set Top Box", []string{"appletv", "apple tv", "roku", "chromecast", "; aft", "crkey", "mibox", "shield android tv"}, func(d *device) { d.IsTVPlayer = true }},
	{"TV", []string{"smart-tv", "smarttv", "smart tv", "hbbtv", "web0s", "bravia", "googletv", "netcast", "android tv", "viera", "vidaa", "aquos"}, func(d *device) { d.IsSmartTV = true }},
	{"EReader", []string{"kindle/", "kobo", "nook", "pocketbook"}, func(d *device) { d.IsEreader = true }},
	{"Media Player", []string{"ipod"}, func(d *device) { d.IsMediaPlayer, d.IsTouchscreen = true, true }},
	{"", []string{"oculusbrowser"}, func(*device) {}},                          // on the head: none of these, though some say X11
	{"Desktop", []string{"tablet pc"}, func(d *device) { d.IsDesktop = true }}, // what Internet Explorer says that could be written on
	{"Tablet", []string{"ipad", "tablet", "kindle fire", "; kf", "playbook", "sm-t", "sm-p", "sm-x"}, func(d *device) { d.IsTablet, d.IsTouchscreen = true, true }},
	{"Mobile Phone", []string{"midp", "kaios", "feature phone"}, func(d *device) { d.IsMobile = true }}, // they have keys
	{"Mobile Phone", []string{"iphone", "mobile", "windows phone", "iemobile", "smartphone"}, func(d *device) { d.IsMobile, d.IsTouchscreen = true, true }},
	{"Tablet", []string{"android"}, func(d *device) { d.IsTablet, d.IsTouchscreen = true, true }}, // a phone's browser adds "Mobile"
	{"Desktop", []string{"windows nt", "macintosh", "x11", "wayland", "cros ", "linux x86_64"}, func(d *device) { d.IsDesktop = true }},
}

func (d *device) classify(ua, family string) {
	for _, k := range deviceKinds {
		for _, w := range k.words {
			if hasWord(ua, w) || hasWord(family, w) {
				d.HWType = k.hwtype
				k.set(d)
				d.IsTouchscreen = d.IsTouchscreen || d.IsDesktop && hasWord(ua, "touch;")
				return
			}
		}
	}
}

// hasWord reports whether w stands in s, and not behind another letter.
func hasWord(s, w string) bool {
	for at := 0; ; at++ {
		i := strings.Index(s[at:], w)
		if i < 0 {
			return false
		}
		if at += i; at == 0 || s[at-1] < 'a' || s[at-1] > 'z' {
			return true
		}
	}
}

// deviceNames are expressions for what the public ones have no name for, or a wrong one.
var deviceNames = []struct {
	says        *regexp.Regexp // the first group is the model
	brand, name string
}{
	{regexp.MustCompile(`; (AFT[A-Z0-9]*)`), "Amazon", "Fire TV"},
	{regexp.MustCompile(`; (KF[A-Z]{2,})`), "Amazon", "Kindle Fire"},
	{regexp.MustCompile(`(?i)(Xbox (?:Series [SX]|One|360))`), "Microsoft", "Xbox"},
	{regexp.MustCompile(`Nintendo (3DS|WiiU)`), "Nintendo", "Nintendo"},
	{regexp.MustCompile(`Android [0-9.]+; (K)\)`), "Generic", ""}, // browsers that tell no model say K
}

// rename mends name, brand and model.
func (d *device) rename(ua string) {
	if strings.HasPrefix(d.Brand, "Generic_") {
		d.Brand = "Generic"
	}
	for _, n := range deviceNames {
		m := n.says.FindStringSubmatch(ua)
		switch {
		case m == nil || d.IsBot:
			continue
		case n.name == "":
			d.Model = map[bool]string{true: "Smartphone", false: "Tablet"}[d.IsMobile]
			d.Name, d.Brand = "Generic "+d.Model, n.brand
		case n.name == n.brand:
			d.Name, d.Brand, d.Model = n.brand+" "+m[1], n.brand, m[1]
		default:
			d.Name, d.Brand, d.Model = n.name, n.brand, m[1]
		}
		return
	}
}
