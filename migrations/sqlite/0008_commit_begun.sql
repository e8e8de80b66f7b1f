-- The claim whose request that enters the order was not sent yet, as long as it equals `claim_worker`: what never
-- began can be claimed again without asking the ERP. A process of an older release leaves it alone, so its
-- claims count as begun.
ALTER TABLE orders ADD COLUMN claim_preparing TEXT;
