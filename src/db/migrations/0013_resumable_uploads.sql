ALTER TABLE "leases" ADD COLUMN "resumable" jsonb;--> statement-breakpoint
ALTER TABLE "leases" ADD COLUMN "resumable_until" timestamp with time zone;
