package config

import "reflect"

// NeedRestart returns the keys in which two configurations differ and which a running gateway cannot
// take over, in the order of Config.
func NeedRestart(old, new *Config) []string {
	return differ("", reflect.ValueOf(*old), reflect.ValueOf(*new))
}

func differ(path string, old, new reflect.Value) []string {
	var keys []string
	for i := range old.NumField() {
		f := old.Type().Field(i)
		key := path + f.Tag.Get("toml")
		if _, may := f.Tag.Lookup("reload"); may || reflect.DeepEqual(old.Field(i).Interface(), new.Field(i).Interface()) {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, differ(key+".", old.Field(i), new.Field(i))...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}
