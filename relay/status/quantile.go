package status

import (
	"math"
	"slices"
)

// quantile finds the value below which a share q of what was observed lies, given how many were up to each bound. It is
// NaN where nothing was; beyond the last bound it is that.
func quantile(q float64, bounds []float64, cumulative map[float64]float64) float64 {
	slices.Sort(bounds)
	total := cumulative[math.Inf(1)]
	if total <= 0 {
		return math.NaN()
	}
	rank, lower, below := q*total, 0.0, 0.0
	for _, b := range bounds {
		if n := cumulative[b]; n >= rank {
			if math.IsInf(b, 1) {
				return lower
			}
			if n == below {
				return b
			}
			return lower + (b-lower)*(rank-below)/(n-below)
		}
		lower, below = b, cumulative[b]
	}
	return lower
}
