package trackers

type Rules struct{}

func Default() *Rules { return &Rules{} }
