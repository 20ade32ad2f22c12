package trackers

import "testing"

// A link that is no counter is asked about for every link of every mail: at most 300 ns and
// no allocation.
const (
	ordinaryLink  = "https://www.example.org/en/magazine/2026/11/a-walk-in-the-woods?utm_source=newsletter&utm_medium=email&utm_campaign=november"
	ordinaryImage = "https://cdn.example.org/media/2026/11/walk-600x400@2x.jpg?v=3"
	mailjetLink   = "https://1a2b3.mjt.lu/lnk/AM8AAD6TDwcAAAAA/3/H_gVqGi_Nd7AdmeieWY-iA/aHR0cHM6Ly93d3cuZXhhbXBsZS5vcmcvc3ByaW5nP2NvbG91cj1ncmVlbg"
)

func BenchmarkLinkOrdinary(b *testing.B) {
	r := Default()
	b.ReportAllocs()
	for b.Loop() {
		r.Link(ordinaryLink)
	}
}

func BenchmarkLinkCounter(b *testing.B) {
	r := Default()
	b.ReportAllocs()
	for b.Loop() {
		r.Link(mailjetLink)
	}
}

func BenchmarkLinkMailgun(b *testing.B) {
	r := Default()
	url := mailgunLink("https://www.example.org/jobs")
	b.ReportAllocs()
	for b.Loop() {
		r.Link(url)
	}
}

func BenchmarkOpenOrdinary(b *testing.B) {
	r := Default()
	b.ReportAllocs()
	for b.Loop() {
		r.Open(ordinaryImage)
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(defaultRules); err != nil {
			b.Fatal(err)
		}
	}
}

// TestOrdinaryAllocatesNothing keeps the promise that the benchmarks measure.
func TestOrdinaryAllocatesNothing(t *testing.T) {
	r := Default().WithHosts([]string{"allowed.example.net"}, []string{"tracker.example.net"})
	if n := testing.AllocsPerRun(100, func() { r.Link(ordinaryLink) }); n != 0 {
		t.Errorf("Link: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { r.Open(ordinaryImage) }); n != 0 {
		t.Errorf("Open: %v allocations", n)
	}
}
