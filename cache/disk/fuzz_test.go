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
	var known stacks
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decode(b, &known)
		alone, aloneErr := decode(b, new(stacks))
		if (err == nil) != (aloneErr == nil) || !reflect.DeepEqual(rec, alone) {
			t.Fatalf("%+v, %v; by itself %+v, %v", rec, err, alone, aloneErr)
		}
		if err != nil {
			return
		}
		again, err := encode(rec)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode(again, &known); err != nil || !reflect.DeepEqual(back, rec) {
			t.Fatalf("%+v becomes %+v, %v", rec, back, err)
		}
	})
}
