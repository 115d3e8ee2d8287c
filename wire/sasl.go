package wire

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// RegisterNoSASL answers those who want to authenticate on a listener that has no SASL as Kafka's KafkaApis does: their libraries have a
// sentence for ILLEGAL_SASL_STATE, and none for a connection that ends.
func RegisterNoSASL(r *Registry) {
	HandleAnswer(r, 0, 1, func(ctx *Request, _ *kmsg.SASLHandshakeRequest) (Answer, error) {
		return Answer{Now: &kmsg.SASLHandshakeResponse{Version: ctx.Version, ErrorCode: kerr.IllegalSaslState.Code}}, nil
	})
	HandleAnswer(r, 0, 2, func(ctx *Request, _ *kmsg.SASLAuthenticateRequest) (Answer, error) {
		said := "SaslAuthenticate request received on a listener without SASL"
		return Answer{Now: &kmsg.SASLAuthenticateResponse{Version: ctx.Version, ErrorCode: kerr.IllegalSaslState.Code, ErrorMessage: &said}}, nil
	})
}
