package disk

import (
	"reflect"
	"testing"

	"layered.build/builder/cache/cachetest"
)

func FuzzRecord(f *testing.F) {
	good, err := encode(cachetest.Record("step", "layer"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte("builder-record 1 \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(again); err != nil || !reflect.DeepEqual(back, rec) {
			t.Fatalf("%+v becomes %+v, %v", rec, back, err)
		}
	})
}
