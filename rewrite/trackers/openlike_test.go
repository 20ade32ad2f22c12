package trackers

import "testing"

func TestOpenLike(t *testing.T) {
	for url, want := range map[string]bool{
		"https://mail.example.org/open/4f3a9c21b7":                                      true,
		"https://mail.example.org/Track-Open?m=26450850&c=23333143":                     true,
		"https://mail.example.org/mm/MarkRead?m=26450850":                               true,
		"https://mail.example.org/clear.gif?jiffies[73B9303B9351HUJs012000003B93]":      true,
		"https://mail.example.org/e?action=open&u=0f8fad5b-d9cb-469f-a165-70867728950e": true,
		"https://mail.example.org/imp/1x1.png?id=ab12cd34":                              true,
		"https://mail.example.org/pixel/jane%40example.com-20260101/x.gif":              true,
		"//mail.example.org/beacon.gif?u=9Zk3LmQ2xT":                                    true,

		"https://mail.example.org/open":                             false, // nothing personal
		"https://mail.example.org/pixel.gif":                        false,
		"https://mail.example.org/open/house.png":                   false,
		"https://mail.example.org/open/2026/summer-sale-banner.png": false,
		"https://mail.example.org/photos/IMG_20260101.png":          false, // nothing says what for
		"https://mail.example.org/open/4f3a9c21b7.jpg":              false, // a photo
		"https://mail.example.org/opening-hours/4f3a9c21b7":         false,
		"https://mail.example.org/logo.gif?v=20260101":              false,
		"https://mail.example.org/november2002/images/spacer.gif":   false, // the folder is a month
		"cid:open/4f3a9c21b7":                                       false,
		"":                                                          false,
	} {
		if got := Default().OpenLike(url); got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
	if Default().WithHosts([]string{"example.org"}, nil).OpenLike("https://mail.example.org/open/4f3a9c21b7") {
		t.Error("an allowed host")
	}
	own, err := Load([]byte("open_words = [\"Ping\"]"))
	if err != nil {
		t.Fatal(err)
	}
	both := Default().With(own)
	for _, url := range []string{"https://mail.example.org/ping/4f3a9c21b7", "https://mail.example.org/open/4f3a9c21b7"} {
		if !both.OpenLike(url) {
			t.Errorf("%s with a word of one's own", url)
		}
	}
}
