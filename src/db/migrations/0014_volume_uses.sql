CREATE TABLE "volume_uses" (
	"machine" text NOT NULL,
	"root" text NOT NULL,
	"node" text NOT NULL,
	"recorded_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "volume_uses_machine_root_pk" PRIMARY KEY("machine","root")
);
