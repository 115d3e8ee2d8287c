package wire

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerIDRequest is kmsg's with what version 6 adds to it (KIP-939), which kmsg does not have.
type InitProducerIDRequest struct {
	kmsg.InitProducerIDRequest
	Enable2PC       bool // the transaction's end is decided elsewhere: it does not time out
	KeepPreparedTxn bool // an open transaction stays open
}

// initProducerIDWith2PC is the version of InitProducerId from which it has the fields of KIP-939. Kafka calls it unstable.
const initProducerIDWith2PC = 6

// MaxVersion is the highest version of InitProducerId.
func (r *InitProducerIDRequest) MaxVersion() int16 { return initProducerIDWith2PC }

// ReadFrom decodes a request body, as kmsg.Request has it.
func (r *InitProducerIDRequest) ReadFrom(body []byte) error {
	if r.Version < initProducerIDWith2PC {
		return r.InitProducerIDRequest.ReadFrom(body)
	}
	s := shape{b: body}
	s.skip(s.length(true, 0))
	s.skip(4 + 8 + 2) // timeout, producer id and epoch
	fields := len(body) - len(s.b)
	s.skip(2)
	if s.bad {
		return errors.New("too short")
	}
	r.Enable2PC, r.KeepPreparedTxn = body[fields] != 0, body[fields+1] != 0
	return r.InitProducerIDRequest.ReadFrom(slices.Concat(body[:fields], s.b))
}

// AppendTo appends the encoded request body to b.
func (r *InitProducerIDRequest) AppendTo(b []byte) []byte {
	n := len(b)
	b = r.InitProducerIDRequest.AppendTo(b)
	if r.Version < initProducerIDWith2PC {
		return b
	}
	n += len(b[n:]) - 1 // tags: none
	return append(b[:n], bit(r.Enable2PC), bit(r.KeepPreparedTxn), 0)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// ResponseKind returns an empty response.
func (r *InitProducerIDRequest) ResponseKind() kmsg.Response {
	resp := &InitProducerIDResponse{OngoingProducerID: -1, OngoingProducerEpoch: -1}
	resp.Version = r.Version
	return resp
}

// InitProducerIDResponse is kmsg's with what version 6 adds to it.
type InitProducerIDResponse struct {
	kmsg.InitProducerIDResponse
	// The transaction that stayed open, -1 and -1 if none did.
	OngoingProducerID    int64
	OngoingProducerEpoch int16
}

const ongoingSize = 8 + 2

// MaxVersion is the highest version of InitProducerId.
func (r *InitProducerIDResponse) MaxVersion() int16 { return initProducerIDWith2PC }

// AppendTo appends the encoded response body to b.
func (r *InitProducerIDResponse) AppendTo(b []byte) []byte {
	b = r.InitProducerIDResponse.AppendTo(b)
	if r.Version < initProducerIDWith2PC {
		return b
	}
	b = binary.BigEndian.AppendUint64(b[:len(b)-1], uint64(r.OngoingProducerID))
	b = binary.BigEndian.AppendUint16(b, uint16(r.OngoingProducerEpoch))
	return append(b, 0)
}

// ReadFrom decodes a response body.
func (r *InitProducerIDResponse) ReadFrom(body []byte) error {
	const fields = 4 + 2 + 8 + 2 // throttle time, error, producer id and epoch
	if r.Version < initProducerIDWith2PC {
		return r.InitProducerIDResponse.ReadFrom(body)
	}
	if len(body) < fields+ongoingSize {
		return errors.New("too short")
	}
	r.OngoingProducerID = int64(binary.BigEndian.Uint64(body[fields:]))
	r.OngoingProducerEpoch = int16(binary.BigEndian.Uint16(body[fields+8:]))
	return r.InitProducerIDResponse.ReadFrom(slices.Concat(body[:fields], body[fields+ongoingSize:]))
}
