package agree

func (Tick) input()            {}
func (Connected) input()       {}
func (Disconnected) input()    {}
func (Heard) input()           {}
func (Records) input()         {}
func (Claimed) input()         {}
func (Paths) input()           {}
func (PathLost) input()        {}
func (WorkersProgress) input() {}
func (WorkersFailed) input()   {}
func (WorkersDown) input()     {}
func (Leave) input()           {}
func (Kill) input()            {}
func (OutcomeWritten) input()  {}

func (Send) output()         {}
func (ReadRecords) output()  {}
func (Claim) output()        {}
func (TestPaths) output()    {}
func (StartWorkers) output() {}
func (StopWorkers) output()  {}
func (Lease) output()        {}
func (WriteOutcome) output() {}
func (Exit) output()         {}
func (Log) output()          {}
func (FirstFailure) output() {}
