package txn

// Point is a step of a distributed transaction at which tests stop the gateway for good,
// or cut the connection that the step is about (see reach). What happens to a
// transaction must not depend on where its coordinator dies.
type Point string

// The steps of a coordinator. Where a message is sent there is a point before it, one when
// it was sent, and one when all answers to its like are there.
const (
	Begin         Point = "begin"
	CommitReader  Point = "commit reader"
	ReaderSent    Point = "commit reader sent"
	CommitOne     Point = "commit one"
	CommitOneSent Point = "commit one sent"
	TakeFence     Point = "take fence"
	TakeFenceSent Point = "take fence sent"
	Prepare       Point = "prepare"
	PrepareSent   Point = "prepare sent"
	Prepared      Point = "prepared"
	DecideSent    Point = "decide sent"
	Decided       Point = "decided"
	FinishSent    Point = "finish sent"
	Finished      Point = "finished"
	AbortDecider  Point = "abort decider"
	Abort         Point = "abort"
)

// The steps of a recovery.
const (
	Listed         Point = "listed"
	Settled        Point = "settled"
	FinishOrphan   Point = "finish orphan"
	OrphanFinished Point = "orphan finished"
	MarkFinished   Point = "mark finished"
	ClearDecisions Point = "clear decisions"
	ClearOld       Point = "clear old"
)
