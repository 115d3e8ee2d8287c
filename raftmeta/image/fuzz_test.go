package image

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FuzzApply: whatever is committed, in whatever order, is applied without a panic, and a snapshot of what comes of it has all of it.
func FuzzApply(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint8(40))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m, delta := Empty(), NewDelta()
		m.Apply(&Record{Kind: &Record_Cluster{&ClusterRecord{ClusterId: "c"}}})
		for range n % 64 {
			r := randomRecord(rng)
			if r.GetCluster() != nil { // the first is the only one
				continue
			}
			delta.Note(m, r)
			m.Apply(r)
			if rng.IntN(4) == 0 {
				m, delta = m.Copy(), NewDelta()
			}
		}
		data, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromSnapshot(data)
		if err != nil {
			t.Fatal(err)
		}
		if was, is := encoded(t, m), encoded(t, again); !slices.Equal(was, is) {
			t.Errorf("a snapshot has\n%q\nof\n%q", is, was)
		}
		All(m)
	})
}

// encoded are the records that make an image, in an order of their own.
func encoded(t *testing.T, m *Image) (out []string) {
	for _, r := range m.records() {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	slices.Sort(out)
	return out
}

// randomRecord is one of any kind, with few different names and numbers, so that they meet.
func randomRecord(rng *rand.Rand) *Record {
	r := new(Record)
	kinds := r.ProtoReflect().Descriptor().Oneofs().Get(0).Fields()
	field := kinds.Get(rng.IntN(kinds.Len()))
	fill(rng, r.ProtoReflect().Mutable(field).Message(), 0)
	return proto.Clone(r).(*Record)
}

// fill gives some fields of a message values.
func fill(rng *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if (rng.IntN(5) == 0 || depth > 3) && f.Kind() != protoreflect.BytesKind { // an id is always there
			continue
		}
		switch {
		case f.IsMap():
			values := m.Mutable(f).Map()
			for range rng.IntN(3) {
				if f.MapValue().Kind() == protoreflect.MessageKind {
					v := values.NewValue()
					fill(rng, v.Message(), depth+1)
					values.Set(scalar(rng, f.MapKey()).MapKey(), v)
				} else {
					values.Set(scalar(rng, f.MapKey()).MapKey(), scalar(rng, f.MapValue()))
				}
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range rng.IntN(4) {
				if f.Kind() == protoreflect.MessageKind {
					fill(rng, list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(scalar(rng, f))
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			fill(rng, m.Mutable(f).Message(), depth+1)
		case f.Name() == "resource_type":
			m.Set(f, protoreflect.ValueOfInt32([]int32{int32(TopicResource), int32(BrokerResource), int32(GroupResource)}[rng.IntN(3)]))
		case f.Name() == "level" || f.Name() == "min" || f.Name() == "max":
			m.Set(f, protoreflect.ValueOfInt32(rng.Int32N(4)))
		default:
			m.Set(f, scalar(rng, f))
		}
	}
}

func scalar(rng *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	number := []int64{0, 1, 2, 3, -1, 1<<31 - 1, -1 << 31}[rng.IntN(7)]
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rng.IntN(2) == 0)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"", "a", "b", "1"}[rng.IntN(4)])
	case protoreflect.BytesKind: // an id
		return protoreflect.ValueOfBytes(bytes.Repeat([]byte{byte(rng.IntN(3))}, len(UUID{})))
	}
	panic("a record has a field of kind " + f.Kind().String())
}
