package agree

// Message is what machines say to each other. It travels as JSON, may be lost, doubled, late or out of order, and is
// from an agent that the mesh has authenticated.
type Message struct {
	Kind       string `json:"kind"`
	Generation int    `json:"generation"`
}
