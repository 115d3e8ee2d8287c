package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jsonRecord is a record as kraft consume --json prints it.
type jsonRecord struct {
	Topic       string       `json:"topic,omitempty"`
	Partition   int32        `json:"partition"`
	Offset      int64        `json:"offset"`
	Timestamp   *int64       `json:"timestamp,omitempty"` // milliseconds since the epoch
	Key         *jsonText    `json:"key,omitempty"`
	KeyBase64   []byte       `json:"key_base64,omitempty"`
	Value       *jsonText    `json:"value,omitempty"`
	ValueBase64 []byte       `json:"value_base64,omitempty"`
	Headers     []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Key         *jsonText `json:"key,omitempty"`
	KeyBase64   []byte    `json:"key_base64,omitempty"`
	Value       *jsonText `json:"value,omitempty"`
	ValueBase64 []byte    `json:"value_base64,omitempty"`
}

// jsonText is a string or null.
type jsonText struct{ text *string }

// MarshalJSON implements json.Marshaler.
func (t jsonText) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(t.text)
	return bytes.TrimSpace(out.Bytes()), err
}

// split gives bytes the field for text and null, or that for others.
func split(data []byte) (*jsonText, []byte) {
	switch {
	case data == nil:
		return &jsonText{}, nil
	case utf8.Valid(data):
		text := string(data)
		return &jsonText{&text}, nil
	}
	return nil, data
}

// printJSON prints a record as a line of JSON.
func printJSON(out *bufio.Writer, r *kgo.Record) {
	timestamp := r.Timestamp.UnixMilli()
	j := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: &timestamp}
	j.Key, j.KeyBase64 = split(r.Key)
	j.Value, j.ValueBase64 = split(r.Value)
	for _, h := range r.Headers {
		var header jsonHeader
		header.Key, header.KeyBase64 = split([]byte(h.Key))
		header.Value, header.ValueBase64 = split(h.Value)
		j.Headers = append(j.Headers, header)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(j) // Flush says why
}

// recordInput is what readJSON reads. topic, partition and offset do not count.
type recordInput struct {
	Topic       json.RawMessage `json:"topic"`
	Partition   json.RawMessage `json:"partition"`
	Offset      json.RawMessage `json:"offset"`
	Timestamp   *int64          `json:"timestamp"`
	Key         inputText       `json:"key"`
	KeyBase64   []byte          `json:"key_base64"`
	Value       inputText       `json:"value"`
	ValueBase64 []byte          `json:"value_base64"`
	Headers     []struct {
		Key         inputText `json:"key"`
		KeyBase64   []byte    `json:"key_base64"`
		Value       inputText `json:"value"`
		ValueBase64 []byte    `json:"value_base64"`
	} `json:"headers"`
}

// inputText is a string, null, or any other JSON, which counts as its text. given is false where the field is not there.
type inputText struct {
	given bool
	text  []byte
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *inputText) UnmarshalJSON(data []byte) error {
	t.given = true
	if !utf8.Valid(data) {
		return errors.New("a text is no UTF-8: give it in base64, as key_base64 or value_base64")
	}
	switch data[0] {
	case 'n':
		return nil
	case '"':
		var s string
		err := json.Unmarshal(data, &s)
		if t.text = []byte(s); err == nil && strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(data, utf8.RuneError) && !bytes.Contains(bytes.ToLower(data), []byte(`\ufffd`)) {
			err = errors.New("half of a surrogate pair is no letter")
		}
		return err
	}
	t.text = slices.Clone(data)
	return nil
}

// or is the bytes of a field, or of its twin in base64.
func (t inputText) or(field string, binary []byte) ([]byte, error) {
	if t.text != nil && binary != nil {
		return nil, fmt.Errorf("%s and %s_base64 are both given", field, field)
	}
	if binary != nil {
		return binary, nil
	}
	return t.text, nil
}

// maxTimestamp is the largest in milliseconds that the client library can hold.
const maxTimestamp = (1<<63 - 1) / 1_000_000

// readJSON reads the next record of a stream of JSON objects; behind the last it gives io.EOF.
func readJSON(d *json.Decoder) (*kgo.Record, error) {
	var in recordInput
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == io.EOF {
		return nil, err
	}
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		err = fmt.Errorf("records are JSON objects one after the other, and this is a JSON %s", kind.Value)
	case errors.As(err, &kind):
		field, _, _ := strings.Cut(kind.Field, ".")
		err = fmt.Errorf("%s must not be a JSON %s", field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the input ends in the middle of it")
	case err == nil && in.Timestamp != nil && (*in.Timestamp < 0 || *in.Timestamp > maxTimestamp):
		err = fmt.Errorf("timestamp is in milliseconds since 1970: %d is none before the year 2262", *in.Timestamp)
	}
	if err == nil && !in.Value.given && in.ValueBase64 == nil {
		err = errors.New(`it has no value: give value or value_base64, or "value":null for a tombstone`)
	}
	if err != nil {
		return nil, fmt.Errorf("this is no record in JSON, like {\"key\":\"k\",\"value\":\"v\"}: %w", err)
	}
	r := new(kgo.Record)
	if r.Key, err = in.Key.or("key", in.KeyBase64); err != nil {
		return nil, err
	}
	if r.Value, err = in.Value.or("value", in.ValueBase64); err != nil {
		return nil, err
	}
	for _, h := range in.Headers {
		value, err := h.Value.or("value", h.ValueBase64)
		if err != nil {
			return nil, fmt.Errorf("header %s: %w", h.Key.text, err)
		}
		key, err := h.Key.or("key", h.KeyBase64)
		if err != nil {
			return nil, fmt.Errorf("a header: %w", err)
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(key), Value: value})
	}
	if in.Timestamp != nil {
		r.Timestamp = time.UnixMilli(*in.Timestamp)
	}
	return r, nil
}

// isBinary reports whether the beginning of an input is no text in lines: it has a zero byte or is no UTF-8.
func isBinary(head []byte) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return true
	}
	for i := 0; i < utf8.UTFMax && len(head) > 0 && !utf8.Valid(head); i++ { // its last letter may be cut
		head = head[:len(head)-1]
	}
	return !utf8.Valid(head)
}
