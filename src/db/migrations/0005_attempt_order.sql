ALTER TABLE "leases" ADD COLUMN "attempt" jsonb;--> statement-breakpoint
ALTER TABLE "leases" ADD COLUMN "earlier_parts" text[] DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "attempt" jsonb;--> statement-breakpoint
ALTER TABLE "staged_files" ADD COLUMN "single_connection" boolean DEFAULT false NOT NULL;