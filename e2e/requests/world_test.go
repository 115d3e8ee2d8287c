package requests

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/wire/record"
)

// world is what symbols mean on one server in one try.
type world struct {
	try       int
	ids       map[string][16]byte
	members   []string
	producers []int64
	sessions  []int32
	telemetry [16]byte
}

func (w *world) name(symbol string) string { return fmt.Sprintf("%s-%06d", symbol, w.try) }

// bind copies a request with its symbols replaced.
func (w *world) bind(req kmsg.Request) kmsg.Request {
	out := plain(req)
	w.replace(reflect.ValueOf(out).Elem(), "")
	return out
}

func (w *world) replace(v reflect.Value, field string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "UnknownTags" {
				w.replace(v.Field(i), name)
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			w.replace(v.Elem(), field)
		}
	case reflect.Slice:
		if field == "Records" {
			v.SetBytes(w.batch(string(v.Bytes())))
			return
		}
		if field == "MemberAssignment" && string(v.Bytes()) == "huge" {
			v.SetBytes(make([]byte, 2<<20))
			return
		}
		if field == "Metadata" && v.Type().Elem().Kind() == reflect.Uint8 && string(v.Bytes()) == "subscription" {
			m := kmsg.NewConsumerMemberMetadata()
			m.Topics = []string{w.name("T1")}
			v.SetBytes(m.AppendTo(nil))
			return
		}
		for i := range v.Len() {
			w.replace(v.Index(i), field)
		}
	case reflect.String:
		v.SetString(w.meaning(v.String()))
	case reflect.Array:
		if v.Len() == 16 && v.Index(0).Uint() == 0xff {
			symbol := strings.TrimRight(string(v.Slice(1, 16).Bytes()), "\x00")
			actual := w.ids[symbol]
			if symbol == "C1" {
				actual = w.telemetry
			}
			v.Set(reflect.ValueOf(actual))
		}
	case reflect.Int64:
		if v.Int() == firstProducer && len(w.producers) > 0 {
			v.SetInt(w.producers[0])
		}
	case reflect.Int32:
		if v.Int() == int64(firstSession) && len(w.sessions) > 0 {
			v.SetInt(int64(w.sessions[0]))
		}
	}
}

func (w *world) meaning(symbol string) string {
	switch {
	case !slices.Contains(symbols, symbol):
		return symbol
	case symbol[0] != 'M':
		return w.name(symbol)
	case int(symbol[1]-'1') < len(w.members):
		return w.members[symbol[1]-'1']
	default:
		return "member-" + symbol
	}
}

// batch makes the records that a symbol stands for.
func (w *world) batch(symbol string) []byte {
	producer := int64(-1)
	if len(w.producers) > 0 {
		producer = w.producers[0]
	}
	switch symbol {
	case "batch":
		return encode(-1, -1, 2, 5000)
	case "two batches":
		return append(encode(-1, -1, 1, 5000), encode(-1, -1, 1, 6000)...)
	case "transaction":
		w := record.NewBuilder(record.None)
		w.ProducerID, w.ProducerEpoch, w.BaseSequence, w.Attributes = max(producer, 5), 0, 0, record.TransactionalFlag
		w.Add(&record.Record{Timestamp: 5000, Value: []byte("v")})
		return built(w.Build())
	case "producer":
		return encode(producer, 0, 2, 5000)
	case "sequence 5":
		return encode(producer, 5, 2, 5000)
	case "old":
		return oldMessage()
	default:
		return []byte(symbol)
	}
}

// encode makes an uncompressed batch of n records without keys. One without a producer has no sequence.
func encode(producer int64, sequence int32, n int, time int64) []byte {
	w := record.NewBuilder(record.None)
	if producer >= 0 {
		w.ProducerID, w.ProducerEpoch, w.BaseSequence = producer, 0, sequence
	}
	for range n {
		w.Add(&record.Record{Timestamp: time, Value: []byte("v")})
	}
	return built(w.Build())
}

// oldMessage is a message of magic 1.
func oldMessage() []byte {
	return built(record.ToLegacy(nil, 1, record.None, false, []record.Record{{Timestamp: 5000, Value: []byte("v")}}))
}

// built is what a builder made: records that are not compressed cannot fail.
func built[B ~[]byte](b B, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// learn takes what a server named.
func (w *world) learn(resp kmsg.Response) {
	switch r := resp.(type) {
	case *kmsg.JoinGroupResponse:
		if r.MemberID != "" && !slices.Contains(w.members, r.MemberID) && r.MemberID != "nobody" && !strings.HasPrefix(r.MemberID, "member-") {
			w.members = append(w.members, r.MemberID)
		}
	case *kmsg.InitProducerIDResponse:
		if r.ProducerID >= 0 && !slices.Contains(w.producers, r.ProducerID) {
			w.producers = append(w.producers, r.ProducerID)
		}
	case *kmsg.FetchResponse:
		if r.SessionID != 0 && !slices.Contains(w.sessions, r.SessionID) {
			w.sessions = append(w.sessions, r.SessionID)
		}
	case *kmsg.GetTelemetrySubscriptionsResponse:
		w.telemetry = r.ClientInstanceID
	}
}

// masked are fields that differ between two servers, or between two moments, and mean the same; and DeltaTemporality: kraft asks clients for
// sums since their start, so that a push that is lost loses nothing. Their paths end so.
var masked = regexp.MustCompile(`(?:ThrottleMillis|ErrorMessage|Host|Port|ClusterID|Documentation|` +
	`Dirs\.(?:Dir|TotalBytes|UsableBytes)|Partitions\.Size|OffsetLag|ClientHost|PushIntervalMillis|TelemetryMaxBytes|ApiKeys|SupportedFeatures|FinalizedFeatures.*|SubscriptionID|DeltaTemporality|` +
	`DescribeQuorumResponse\.(?:Nodes|Topics\.Partitions\.(?:CurrentVoters|Observers|HighWatermark|LeaderEpoch)))$`)

// lines renders an answer, a line for each field that is not zero. Entries of lists are in the order of what they say.
func (w *world) lines(resp kmsg.Response) []string {
	var out []string
	name := reflect.TypeOf(resp).Elem().Name()
	w.render(&out, "", name, reflect.ValueOf(resp).Elem())
	return out
}

var otherTry = regexp.MustCompile(`^[TGX][12xy]-(\d{6})$`)

func (w *world) render(out *[]string, shown, path string, v reflect.Value) {
	if masked.MatchString(path) {
		return
	}
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "Version" && f.Name != "UnknownTags" {
				w.render(out, strings.TrimPrefix(shown+"."+f.Name, "."), path+"."+f.Name, v.Field(i))
			}
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		var entries [][]string
		for i := range v.Len() {
			if w.foreign(path, v.Index(i)) {
				continue
			}
			var entry []string
			w.render(&entry, "", path, v.Index(i))
			entries = append(entries, entry)
		}
		slices.SortFunc(entries, slices.Compare)
		for i, e := range entries {
			if len(e) == 0 {
				e = []string{""}
			}
			for _, line := range e {
				*out = append(*out, strings.TrimRight(fmt.Sprintf("%s[%d]%s", shown, i, dotted(line)), " "))
			}
		}
	case v.Kind() == reflect.Pointer && v.IsNil():
		*out = append(*out, shown+" null")
	case v.Kind() == reflect.Pointer:
		w.render(out, shown, path, v.Elem())
	default:
		if text := w.value(path, v); text != "" {
			*out = append(*out, shown+" "+text)
		}
	}
}

func dotted(line string) string {
	if line == "" || line[0] == '[' || line[0] == ' ' {
		return line
	}
	return "." + line
}

// foreign says that an entry of a list is another try's. So is the group without a name.
func (w *world) foreign(path string, v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	for _, field := range []string{"Topic", "Group", "Name", "ResourceName"} {
		f := v.FieldByName(field)
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		if f.Kind() == reflect.String {
			m := otherTry.FindStringSubmatch(f.String())
			if m != nil && m[1] != fmt.Sprintf("%06d", w.try) || strings.HasPrefix(path, "ListGroupsResponse") && f.String() == "" {
				return true
			}
		}
	}
	return false
}

// value renders one value by what it means in this try; "" for a zero.
func (w *world) value(path string, v reflect.Value) string {
	field := path[strings.LastIndexByte(path, '.')+1:]
	switch {
	case field == "ErrorCode":
		if err, ok := kerr.ErrorForCode(int16(v.Int())).(*kerr.Error); ok {
			return err.Message
		}
		return ""
	case v.Kind() == reflect.Array:
		id := v.Interface().([16]byte)
		for _, symbol := range symbols {
			if id == w.ids[symbol] && id != noID {
				return "id of " + symbol
			}
		}
		switch id {
		case noID:
			return ""
		case otherID:
			return "the other id"
		case w.telemetry:
			return "id of C1"
		}
		return "an id"
	case v.Kind() == reflect.String:
		text := v.String()
		if i := slices.Index(w.members, text); i >= 0 && text != "" {
			return fmt.Sprintf("M%d", i+1)
		}
		if m := otherTry.FindStringSubmatch(text); m != nil {
			return text[:2]
		}
		return text
	case v.Kind() == reflect.Slice && field == "RecordBatches":
		return records(v.Bytes())
	case v.Kind() == reflect.Slice && v.Len() == 0:
		return ""
	case v.Kind() == reflect.Slice:
		return strings.ReplaceAll(fmt.Sprintf("%.60q", v.Bytes()), w.name("T1"), "T1")
	case v.IsZero():
		return ""
	case field == "ProducerID":
		if i := slices.Index(w.producers, v.Int()); i >= 0 {
			return fmt.Sprintf("P%d", i+1)
		}
	case field == "SessionID":
		if i := slices.Index(w.sessions, int32(v.Int())); i >= 0 {
			return fmt.Sprintf("S%d", i+1)
		}
	case v.Kind() == reflect.Int64 && v.Int() > 1_600_000_000_000 && v.Int() < 1<<50:
		return "now"
	}
	return fmt.Sprint(v.Interface())
}

// records says which records bytes hold.
func records(b []byte) string {
	var out []string
	for len(b) > 0 {
		if len(b) > 16 && b[16] < 2 {
			return strings.Join(append(out, fmt.Sprintf("messages of magic %d", b[16])), " ")
		}
		batch, rest, err := record.Next(b)
		if err != nil {
			return strings.Join(append(out, "a part"), " ")
		}
		out = append(out, fmt.Sprintf("%d records at %d", batch.Count(), batch.BaseOffset()))
		b = rest
	}
	return strings.Join(out, ", ")
}

// text renders a request in one line: what is not its default.
func text(req kmsg.Request) string {
	v := reflect.ValueOf(req).Elem()
	return fmt.Sprintf("%s v%d %s", kmsg.NameForKey(req.Key()), req.GetVersion(), textOf(v, reflect.ValueOf(plainDefault(req)).Elem()))
}

func plainDefault(req kmsg.Request) kmsg.Request {
	out := kmsg.RequestForKey(req.Key())
	out.SetVersion(req.GetVersion())
	return out
}

func textOf(v, ordinary reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[[16]byte]():
		if v.Index(0).Uint() == 0xff {
			return strings.TrimRight("id:"+string(v.Slice(1, 16).Bytes()), "\x00")
		}
		return "other"
	case v.Kind() == reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name == "Version" || f.Name == "UnknownTags" || reflect.DeepEqual(v.Field(i).Interface(), ordinary.Field(i).Interface()) {
				continue
			}
			fields = append(fields, f.Name+":"+textOf(v.Field(i), ordinary.Field(i)))
		}
		return "{" + strings.Join(fields, " ") + "}"
	case v.Kind() == reflect.Pointer && v.IsNil():
		return "null"
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct:
		return textOf(v.Elem(), defaults(v.Type().Elem()))
	case v.Kind() == reflect.Pointer:
		return textOf(v.Elem(), reflect.Value{})
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		if v.IsNil() {
			return "null"
		}
		var entries []string
		for i := range v.Len() {
			entries = append(entries, textOf(v.Index(i), defaults(v.Type().Elem())))
		}
		return "[" + strings.Join(entries, " ") + "]"
	case v.Kind() == reflect.Slice:
		return fmt.Sprintf("%.20q", v.Bytes())
	case v.Kind() == reflect.String:
		if v.Len() > 20 {
			return fmt.Sprintf("%s...(%d)", v.String()[:3], v.Len())
		}
		if strings.ContainsAny(v.String(), " []{}") || v.Len() == 0 {
			return fmt.Sprintf("%q", v.String())
		}
		return v.String()
	default:
		return fmt.Sprintf("%v", v.Interface())
	}
}

// defaults is an entry of a list as a client's library makes it.
func defaults(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(interface{ Default() }); ok {
		d.Default()
	}
	return p.Elem()
}
