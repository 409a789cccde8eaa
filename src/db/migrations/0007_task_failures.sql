ALTER TABLE "tasks" ADD COLUMN "code" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "hint" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "step" text;--> statement-breakpoint
ALTER TABLE "tasks" ADD COLUMN "store" text;--> statement-breakpoint
UPDATE "tasks" SET "code" = substring("message" from '^Error: (\w+): ') WHERE "status" = 'failure';
