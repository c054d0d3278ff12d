package hostcall

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/wedge-cloud/wedge"
	"github.com/wedge-cloud/wedge/abi"
)

// devices are User-Agents as they are sent, and what is told of each: kind, then what holds, then brand, name and model.
var devices = []struct{ ua, kind, is, brand, name, model string }{
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "Desktop", "desktop", "", "", ""},
	{"Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; SLCC2; .NET CLR 2.0.50727; Media Center PC 6.0; Tablet PC 2.0)", "Desktop", "desktop", "", "", ""},
	{"Mozilla/5.0 (Windows NT 6.3; ARM; Trident/7.0; Touch; rv:11.0) like Gecko", "Desktop", "desktop touchscreen", "", "", ""},
	{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15", "Desktop", "desktop", "Apple", "Mac", "Mac"},
	{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/119.0.0.0 Safari/537.36", "Desktop", "desktop", "", "", ""},
	{"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0", "Desktop", "desktop", "", "", ""},
	{"Mozilla/5.0 (Wayland; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "Desktop", "desktop", "", "", ""},
	{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1", "Mobile Phone", "mobile touchscreen", "Apple", "iPhone", "iPhone"},
	{"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1", "Tablet", "tablet touchscreen", "Apple", "iPad", "iPad"},
	{"Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1", "Media Player", "mediaplayer touchscreen", "Apple", "iPod", "iPod"},
	{"Mozilla/5.0 (Linux; Android 13; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0 Mobile Safari/537.36", "Mobile Phone", "mobile touchscreen", "Samsung", "Samsung SM-S918B", "SM-S918B"},
	{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36", "Mobile Phone", "mobile touchscreen", "Generic", "Generic Smartphone", "Smartphone"},
	{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "Tablet", "tablet touchscreen", "Generic", "Generic Tablet", "Tablet"},
	{"Mozilla/5.0 (Linux; Android 12; SM-X906C Build/QP1A.190711.020; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/80.0.3987.119 Mobile Safari/537.36", "Tablet", "tablet touchscreen", "Samsung", "Samsung SM-X906C", "SM-X906C"},
	{"Mozilla/5.0 (Linux; Android 11; Lenovo YT-J706X) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96.0.4664.45 Safari/537.36", "Tablet", "tablet touchscreen", "Lenovo", "Lenovo YT-J706X", "YT-J706X"},
	{"Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/118.0 Firefox/118.0", "Mobile Phone", "mobile touchscreen", "Generic", "Generic Smartphone", "Smartphone"},
	{"Mozilla/5.0 (Android 13; Tablet; rv:109.0) Gecko/118.0 Firefox/118.0", "Tablet", "tablet touchscreen", "Generic", "Generic Tablet", "Tablet"},
	{"Mozilla/5.0 (Linux; Android 9; AFTSSS) AppleWebKit/537.36 (KHTML, like Gecko) Silk/112.5.1 like Chrome/112.0.5615.213 Safari/537.36", "Set Top Box", "tvplayer", "Amazon", "Fire TV", "AFTSSS"},
	{"Mozilla/5.0 (Linux; Android 9; AFTWMST22 Build/PS7233; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/88.0.4324.152 Mobile Safari/537.36", "Set Top Box", "tvplayer", "Amazon", "Fire TV", "AFTWMST22"},
	{"Mozilla/5.0 (Linux; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/112.5.1 like Chrome/112.0.5615.213 Safari/537.36", "Tablet", "tablet touchscreen", "Amazon", "Kindle Fire", "KFMAWI"},
	{"Mozilla/5.0 (X11; U; Linux armv7l like Android; en-us) AppleWebKit/531.2+ (KHTML, like Gecko) Version/5.0 Safari/533.2+ Kindle/3.0+", "EReader", "ereader", "Amazon", "Kindle", "Kindle 3.0"},
	{"Mozilla/5.0 (Linux; U; Android 2.0; en-us;) AppleWebKit/538.1 (KHTML, like Gecko) Version/4.0 Mobile Safari/538.1 (Kobo Touch 0377/4.20.14622)", "EReader", "ereader", "Kobo", "Kobo Touch", "Kobo Touch"},
	{"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15", "Games Console", "gameconsole", "Sony", "PlayStation 5", "PlayStation 5"},
	{"Mozilla/5.0 (PlayStation Vita 3.61) AppleWebKit/537.73 (KHTML, like Gecko) Silk/3.2", "Games Console", "gameconsole touchscreen", "Sony", "PlayStation Vita", "PlayStation Vita"},
	{"Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/601.6 (KHTML, like Gecko) NF/4.0.0.5.10 NintendoBrowser/5.1.0.13343", "Games Console", "gameconsole touchscreen", "Nintendo", "Nintendo Switch", "Switch"},
	{"Mozilla/5.0 (New Nintendo 3DS like iPhone) AppleWebKit/536.30 (KHTML, like Gecko) NX/3.0.0.5.20 Mobile NintendoBrowser/1.10.10166.EU", "Games Console", "gameconsole touchscreen", "Nintendo", "Nintendo 3DS", "3DS"},
	{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox Series X) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/48.0.2564.82 Safari/537.36 Edge/20.02", "Games Console", "gameconsole", "Microsoft", "Xbox", "Xbox Series X"},
	{"Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/538.1 (KHTML, like Gecko) Version/5.0 NativeTVAds Safari/538.1", "TV", "smarttv", "Samsung", "Samsung SMART-TV", "SMART-TV"},
	{"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/79.0.3945.79 Safari/537.36 WebAppManager", "TV", "smarttv", "LG", "LG Web0S SmartTV", "Web0S SmartTV"},
	{"Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR2 Build/PTT1.190515.001.S52) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/77.0.3865.116 Mobile Safari/537.36", "TV", "smarttv", "Generic", "BRAVIA 4K UR2", "BRAVIA 4K UR2"},
	{"HbbTV/1.5.1 (+DRM; Panasonic; VIERA 2018; 3.137; 0401-0000 0000-0000; com.panasonic.2018;) Mozilla/5.0", "TV", "smarttv", "Panasonic", "HbbTV", "VIERA 2018"},
	{"Roku/DVP-12.0 (12.0.0.4182-88)", "Set Top Box", "tvplayer", "Generic", "Roku", "Roku"},
	{"Mozilla/5.0 (X11; Linux armv7l) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0.4430.225 Safari/537.36 CrKey/1.56.500000 DeviceType/Chromecast", "Set Top Box", "tvplayer", "Google", "Chromecast", "Chromecast"},
	{"AppleCoreMedia/1.0.0.20J373 (Apple TV; U; CPU OS 16_0 like Mac OS X; en_us)", "Set Top Box", "tvplayer", "Apple", "AppleTV", "AppleTV"},
	{"Dalvik/2.1.0 (Linux; U; Android 9; MIBOX4 Build/PI)", "Set Top Box", "tvplayer", "Generic", "MIBOX4", "MIBOX4"},
	{"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Robot", "bot", "Spider", "Spider", "Desktop"},
	{"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Robot", "bot", "Spider", "Spider", "Smartphone"},
	{"Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.0; +https://openai.com/gptbot)", "Robot", "bot", "Spider", "Spider", "Desktop"},
	{"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "Robot", "bot", "Spider", "Spider", "Desktop"},
	{"Nokia6300/2.0 (05.00) Profile/MIDP-2.0 Configuration/CLDC-1.1", "Mobile Phone", "mobile", "Nokia", "Nokia 6300", "6300"},
	{"Mozilla/5.0 (Mobile; Nokia_8110_4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5", "Mobile Phone", "mobile", "Nokia", "Nokia 8110", "8110"},
	{"Mozilla/5.0 (Windows Phone 10.0; Android 6.0.1; Microsoft; Lumia 950) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/52.0.2743.116 Mobile Safari/537.36 Edge/15.15063", "Mobile Phone", "mobile touchscreen", "Nokia", "Lumia 950", "Lumia 950"},
	{"Mozilla/5.0 (PlayBook; U; RIM Tablet OS 2.1.0; en-US) AppleWebKit/536.2+ (KHTML, like Gecko) Version/7.2.1.0 Safari/536.2+", "Tablet", "tablet touchscreen", "BlackBerry", "BlackBerry Playbook", "Playbook"},
	{"Mozilla/5.0 (X11; Linux x86_64; Quest 3) AppleWebKit/537.36 (KHTML, like Gecko) OculusBrowser/30.0 Chrome/118.0 Safari/537.36", "", "", "Meta", "Quest", "Quest 3"},
}

// holds names what is true of a device, by the JSON's names.
func (d device) holds() string {
	var is []string
	v := reflect.ValueOf(d)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Bool && f.Bool() {
			is = append(is, strings.TrimPrefix(v.Type().Field(i).Tag.Get("json"), "is_"))
		}
	}
	return strings.Join(is, " ")
}

func TestDevices(t *testing.T) {
	b := stNew(t, &wedge.Version{})
	o, buf := b.out4(), b.buf(2000)
	for _, c := range devices {
		b.want(abi.OK, "fastly_device_detection", "lookup", c.ua, buf, o)
		var r deviceRecord
		if err := json.Unmarshal([]byte(b.text(buf, o)), &r); err != nil {
			t.Fatal(err)
		}
		d := r.Device
		got := fmt.Sprintf("%q is %q: %q %q %q", d.HWType, d.holds(), d.Brand, d.Name, d.Model)
		if want := fmt.Sprintf("%q is %q: %q %q %q", c.kind, c.is, c.brand, c.name, c.model); got != want {
			t.Errorf("%s\n\t%s, want\n\t%s", c.ua, got, want)
		}
		if a := r.UserAgent; a.IsBot != d.IsBot || (a.BotName != "") != d.IsBot || !a.Identified && d.HWType != "" {
			t.Errorf("%s: %+v", c.ua, a)
		}
	}
	b.want(abi.None, "fastly_device_detection", "lookup", "curl/8.4.0", buf, o)
}

func TestHasWord(t *testing.T) {
	for s, want := range map[string]bool{"nook": true, "a nook": true, "anook": false, "anook nook": true, "2nook": true, "": false, "noo": false} {
		if hasWord(s, "nook") != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
