package session

// sessionState is where the conversation is between two messages.
type sessionState uint8

const (
	// stateReady: outside a transaction block or in one; a failed block differs
	// in what statements may do and not in which messages may come.
	stateReady sessionState = iota
	// stateSkip: an error in the extended protocol; everything up to Sync is
	// discarded.
	stateSkip
	stateCount
)

// action is what is done with a message.
type action uint8

const (
	actViolation action = iota // the connection ends
	actQuery                   // a simple query
	actExtended                // a batch of the extended protocol
	actFunction                // a function call
	actIgnore                  // read and thrown away
	actTerminate
)

// transition is one state's row of the table: actions by message type.
type transition map[byte]action

func (t transition) action(typ byte) action { return t[typ] }

// transitions is the protocol's state machine for a client that has
// authenticated (PostgreSQL's documentation, "Message Flow"; PostgresMain in
// postgres.c). COPY data outside COPY is ignored, since the client may have sent
// it before it saw an error.
var transitions = [stateCount]transition{
	stateReady: {
		'Q': actQuery, 'F': actFunction,
		'P': actExtended, 'B': actExtended, 'D': actExtended, 'E': actExtended,
		'C': actExtended, 'H': actExtended, 'S': actExtended,
		'd': actIgnore, 'c': actIgnore, 'f': actIgnore,
		'X': actTerminate,
	},
	stateSkip: {
		'Q': actIgnore,
		'P': actIgnore, 'B': actIgnore, 'D': actIgnore, 'E': actIgnore,
		'C': actIgnore, 'H': actIgnore, 'F': actIgnore,
		'd': actIgnore, 'c': actIgnore, 'f': actIgnore,
		'S': actExtended,
		'X': actTerminate,
	},
}
