package wire

// Distinct returns the entries of a request's list without those whose key an earlier one has: a request may name a topic millions of times.
func Distinct[T any, K comparable](list []T, key func(*T) K) []T {
	seen := map[K]bool{}
	var out []T
	for i := range list {
		if k := key(&list[i]); !seen[k] {
			seen[k] = true
			out = append(out, list[i])
		}
	}
	return out
}

// Repeated returns the keys that more than one entry of a request's list has.
func Repeated[T any, K comparable](list []T, key func(*T) K) map[K]bool {
	seen, out := map[K]bool{}, map[K]bool{}
	for i := range list {
		k := key(&list[i])
		if seen[k] {
			out[k] = true
		}
		seen[k] = true
	}
	return out
}
